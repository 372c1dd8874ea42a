/** What must lie beside a file with blobs: for each transaction that counts, the contents of its blobs, whole. */
import type { Report } from "./checkers.ts";
import type { FileView } from "./file_view.ts";

const DATA_FS = "/db/Data.fs";

/** As in the names of files: no leading zero bytes. */
function digits(id: bigint): string {
  const text = id.toString(16);
  return `0x${text.padStart(text.length + text.length % 2, "0")}`;
}

/** Where the machines of a world keep their blobs. */
export const BLOB_DIRECTORY = "/db/blobs";

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

  constructor(name: string, blobs: readonly SimulatedBlob[], report: Report) {
    this.#name = name;
    this.#blobs = blobs;
    this.#report = report;
  }

  /**
   * @param view the Data.fs
   * @param bytesOf the bytes of a file beside it
   * @param when as the report begins: "" or "after a power loss, "
   */
  check(view: FileView, bytesOf: (path: string) => Uint8Array | undefined, when: string): void {
    const counted = new Set(view.transactions.map(({ tid }) => tid));
    const list = new TextDecoder().decode(bytesOf(`${DATA_FS}.missing-blobs`));
    for (const { oid, tid, path, content } of this.#blobs) {
      if (!counted.has(tid)) continue;
      if (content === undefined) {
        if (list.split("\n").includes(`${digits(oid)} ${digits(tid)}`)) continue;
        this.#report("BlobsChecker", `${when}${this.#name}: blob ${path} is missing, and is not on the list`);
        continue;
      }
      const found = bytesOf(`${BLOB_DIRECTORY}/${path}`);
      if (found?.length === content.length && found.every((byte, at) => byte === content[at])) continue;
      const what = found === undefined ? "is missing" : `has other content (${found.length} bytes)`;
      this.#report("BlobsChecker", `${when}${this.#name}: blob ${path} of a transaction that counts ${what}`);
    }
  }
}
