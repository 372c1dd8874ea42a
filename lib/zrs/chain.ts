/**
 * The digest that runs through a connection (docs/zrs_protocol.md, "The stream"): MD5 over the start tid and
 * then the bodies of all messages, never begun anew. MD5 itself is the limit of the whole protocol; collecting
 * small bodies before they are digested gains a twentieth on small records.
 */
import { createHash, type Hash } from "node:crypto";

export const DIGEST_LENGTH = 16;

const COLLECTED_BYTES = 8192;
/** Longer bodies are digested where they are. */
const SMALL_BODY = 1024;

export class DigestChain {
  readonly #hash: Hash;
  readonly #collected = new Uint8Array(COLLECTED_BYTES);
  #length = 0;

  /** @param startTid what the secondary said it has */
  constructor(startTid: bigint) {
    const tid = new Uint8Array(8);
    new DataView(tid.buffer).setBigUint64(0, startTid);
    this.#hash = createHash("md5").update(tid);
  }

  update(bytes: Uint8Array, from: number, to: number): void {
    const length = to - from;
    if (length > SMALL_BODY || length > COLLECTED_BYTES - this.#length) this.#digestCollected();
    if (length > SMALL_BODY) {
      this.#hash.update(bytes.subarray(from, to));
    } else {
      this.#collected.set(bytes.subarray(from, to), this.#length);
      this.#length += length;
    }
  }

  /** The digest of all that came so far, {@link DIGEST_LENGTH} bytes; the chain goes on. */
  digest(): Uint8Array {
    this.#digestCollected();
    return this.#hash.copy().digest();
  }

  #digestCollected(): void {
    this.#hash.update(this.#collected.subarray(0, this.#length));
    this.#length = 0;
  }
}
