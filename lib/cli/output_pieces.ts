/** Standard output of many lines, handed to the system in pieces: a write for each line would take longer than the work. */

import type { Host } from "../host/mod.ts";

/** A piece has about so many characters. */
const PIECE_CHARACTERS = 64 * 1024;

export class OutputPieces {
  readonly #host: Host;
  #waiting = "";

  constructor(host: Host) {
    this.#host = host;
  }

  /** @throws UnavailableError when nobody reads any more */
  add(text: string): void {
    this.#waiting += text;
    if (this.#waiting.length >= PIECE_CHARACTERS) this.flush();
  }

  /** Hands on what is left. @throws as {@link add} */
  flush(): void {
    const text = this.#waiting;
    this.#waiting = "";
    if (text !== "") this.#host.out(text);
  }
}
