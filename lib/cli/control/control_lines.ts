/** What a client of the control socket says, line by line; and whether it is still there while it is answered. */
import { ZrsError } from "../../errors.ts";
import type { Connection } from "../../ports/mod.ts";
import { LineDecoder, MAX_REQUEST_BYTES } from "./control_protocol.ts";

const CHUNK_BYTES = 4096;

export class ClientLines {
  readonly #client: Connection;
  readonly #lines = new LineDecoder(MAX_REQUEST_BYTES);
  readonly #chunk = new Uint8Array(CHUNK_BYTES);
  /** The bytes that are being read. */
  #reading: Promise<void> | undefined;
  #hasEnded = false;

  constructor(client: Connection) {
    this.#client = client;
  }

  /** The next line; undefined when the client has closed. @throws ProtocolError, UnavailableError */
  async next(): Promise<string | undefined> {
    for (;;) {
      const line = this.#lines.next();
      if (line !== undefined || this.#hasEnded) return line;
      await this.#read();
    }
  }

  /**
   * Calls back when the client goes before the signal aborts. What it says meanwhile is kept for later; one that
   * says more than a request is as good as gone.
   */
  watch(signal: AbortSignal, gone: () => void): void {
    const watch = async () => {
      for (let count = 0; count < MAX_REQUEST_BYTES / CHUNK_BYTES; count++) {
        await this.#read();
        if (signal.aborted) return;
        if (this.#hasEnded) break;
      }
      gone();
    };
    watch().catch((error) => {
      if (!(error instanceof ZrsError)) throw error;
      gone();
    });
  }

  #read(): Promise<void> {
    return this.#reading ??= this.#readChunk().finally(() => this.#reading = undefined);
  }

  async #readChunk(): Promise<void> {
    const count = await this.#client.read(this.#chunk);
    if (count === null) this.#hasEnded = true;
    else this.#lines.push(this.#chunk.subarray(0, count));
  }
}
