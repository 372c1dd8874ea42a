/** What must lie beside a file with blobs: for each transaction that counts, the contents of its blobs, whole. */
import type { Report } from "./checkers.ts";
import { latin1 } from "../kit/hex.ts";
import { type FileView, sameBytes } from "./file_view.ts";

/** As in the names of files: no leading zero bytes. */
function digits(id: bigint): string {
  const text = id.toString(16);
  return `0x${text.padStart(text.length + text.length % 2, "0")}`;
}

/** What ZODB writes as the record of each blob. */
export const BLOB_RECORD = latin1("\x80\x03cZODB.blob\nBlob\nq\x00.\x80\x03N.");

/** The blob of an object and a transaction, whose content those two tell. */
export function blobOf(oid: bigint, tid: bigint): SimulatedBlob {
  const bytes = oid.toString(16).padStart(16, "0").match(/../g)!;
  const seed = Number((oid * 31n + tid) % 65_521n);
  const length = seed % 7 === 0 ? 0 : seed % 5 === 0 ? 20 * (seed % 1_000) : seed % 600;
  return {
    oid,
    tid,
    path: `${bytes.map((byte) => `0x${byte}`).join("/")}/${digits(tid)}.blob`,
    content: Uint8Array.from({ length }, (_, at) => (at * 7 + seed) % 251),
  };
}

/** Where the machines of a world keep their blobs. */
export const BLOB_DIRECTORY = "/db/blobs";

/** Where a replica's file is, and its blobs. */
export interface BlobPlace {
  readonly dataFs: string;
  readonly blobDir: string;
}

const USUAL_PLACE: BlobPlace = { dataFs: "/db/Data.fs", blobDir: BLOB_DIRECTORY };

export interface SimulatedBlob {
  readonly oid: bigint;
  readonly tid: bigint;
  /** Below the blob directory. */
  readonly path: string;
  /** Undefined: the source has no file for it. */
  readonly content: Uint8Array | undefined;
}

/** Holds the promise that a record and its blob arrive together. */
export class BlobsChecker {
  readonly #name: string;
  readonly #blobs: readonly SimulatedBlob[];
  readonly #report: Report;
  readonly #place: BlobPlace;

  constructor(name: string, blobs: readonly SimulatedBlob[], report: Report, place = USUAL_PLACE) {
    this.#name = name;
    this.#place = place;
    this.#blobs = blobs;
    this.#report = report;
  }

  /**
   * @param view the Data.fs
   * @param bytesOf the bytes of a file beside it
   * @param when as the report begins: "" or "after a power loss, "
   */
  check(view: FileView, bytesOf: (path: string) => Uint8Array | undefined, when: string): void {
    const { dataFs, blobDir } = this.#place;
    const list = new TextDecoder().decode(bytesOf(`${dataFs}.missing-blobs`));
    for (const { oid, tid, path, content } of this.#blobs) {
      const records = view.transactions[view.indexOf(tid)]?.records ?? [];
      const isBlob = (data: Uint8Array | undefined) => data !== undefined && sameBytes(data, BLOB_RECORD);
      // A loss of power at the source may leave something else of the record.
      if (!records.some((record) => record.oid === oid && isBlob(view.dataOf(record)))) continue;
      if (content === undefined) {
        if (list.split("\n").includes(`${digits(oid)} ${digits(tid)}`)) continue;
        this.#report("BlobsChecker", `${when}${this.#name}: blob ${path} is missing, and is not on the list`);
        continue;
      }
      const found = bytesOf(`${blobDir}/${path}`);
      if (found?.length === content.length && found.every((byte, at) => byte === content[at])) continue;
      const what = found === undefined ? "is missing" : `has other content (${found.length} bytes)`;
      this.#report("BlobsChecker", `${when}${this.#name}: blob ${path} of a transaction that counts ${what}`);
    }
  }
}
