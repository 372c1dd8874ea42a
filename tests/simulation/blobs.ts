/** What must lie beside a file with blobs: for each transaction that counts, the contents of its blobs, whole. */
import type { Report } from "./checkers.ts";
import type { FileView } from "./file_view.ts";

/** Where the machines of a world keep their blobs. */
export const BLOB_DIRECTORY = "/db/blobs";

export interface SimulatedBlob {
  readonly tid: bigint;
  /** Below the blob directory. */
  readonly path: string;
  readonly content: Uint8Array;
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
    for (const { tid, path, content } of this.#blobs) {
      if (!counted.has(tid)) continue;
      const found = bytesOf(`${BLOB_DIRECTORY}/${path}`);
      if (found?.length === content.length && found.every((byte, at) => byte === content[at])) continue;
      const what = found === undefined ? "is missing" : `has other content (${found.length} bytes)`;
      this.#report("BlobsChecker", `${when}${this.#name}: blob ${path} of a transaction that counts ${what}`);
    }
  }
}
