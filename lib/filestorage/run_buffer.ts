/**
 * The end of a Data.fs while it grows in memory: bytes that will lie behind a position of the file, first those of
 * whole transactions, which are taken away as a {@link Run}, then those of the transaction under way. There are two
 * buffers, so that one can be refilled while the run in the other is being written.
 */
import { viewOf } from "../bytes/mod.ts";
import type { Run } from "./appender.ts";
import type { ByteSource } from "./window.ts";

export class RunBuffer {
  #bytes: Uint8Array;
  #view: DataView;
  /** The position in the file of the buffer's first byte. */
  #base: number;
  #length = 0;
  #wholeLength = 0;
  #transactions = 0;
  #firstTid = 0n;
  /** The buffer that is being refilled next, while a run in the other is on its way. */
  #spare: Uint8Array | undefined;
  #lent: Run | undefined;

  /** @param position where in the file the first byte will lie */
  constructor(position: number, bufferBytes: number) {
    this.#base = position;
    this.#bytes = new Uint8Array(bufferBytes);
    this.#view = viewOf(this.#bytes);
    this.#spare = new Uint8Array(bufferBytes);
  }

  /** Valid until the next {@link reserve} or {@link take}; offsets in them are what `reserve` returns. */
  get bytes(): Uint8Array {
    return this.#bytes;
  }

  /** Of {@link bytes}. */
  get view(): DataView {
    return this.#view;
  }

  /** The position in the file of the first byte. */
  get base(): number {
    return this.#base;
  }

  get length(): number {
    return this.#length;
  }

  /** The position behind the last byte. */
  get end(): number {
    return this.#base + this.#length;
  }

  /** The position behind the last whole transaction. */
  get wholeEnd(): number {
    return this.#base + this.#wholeLength;
  }

  /** True while whole transactions wait to be taken. */
  get hasWhole(): boolean {
    return this.#transactions > 0;
  }

  /** True while a run that was taken has not been given back. */
  get isLent(): boolean {
    return this.#lent !== undefined;
  }

  /** Room for so many more bytes: the offset where they go. */
  reserve(count: number): number {
    const at = this.#length;
    const needed = at + count;
    if (needed > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(needed, this.#bytes.length * 2));
      larger.set(this.#bytes.subarray(0, at));
      this.#bytes = larger;
      this.#view = viewOf(larger);
    }
    this.#length = needed;
    return at;
  }

  /** Continues at a position passed before, in the buffer or already spilled. */
  takeBack(position: number): void {
    if (position >= this.#base) {
      this.#length = position - this.#base;
    } else {
      this.#base = position;
      this.#length = 0;
    }
  }

  /** One more transaction is whole, and ends at this position. */
  finish(tid: bigint, end: number): void {
    if (this.#transactions++ === 0) this.#firstTid = tid;
    this.#wholeLength = end - this.#base;
  }

  /** As {@link finish}, of a transaction that has been spilled: its last bytes are no run. */
  finishSpilled(): void {
    this.#wholeLength = this.#length;
  }

  /**
   * Takes the whole transactions away. What remains is the transaction under way.
   * @param lastTid of the last of them
   * @returns the run, whose buffer must come back by {@link giveBack} before the next is taken
   */
  take(lastTid: bigint): Run {
    const next = this.#spare;
    if (next === undefined) throw new RangeError("The last run is still out");
    const run: Run = {
      position: this.#base,
      bytes: this.#bytes.subarray(0, this.#wholeLength),
      transactions: this.#transactions,
      firstTid: this.#firstTid,
      lastTid,
    };
    this.#lent = run;
    const rest = this.#bytes.subarray(this.#wholeLength, this.#length);
    this.#spare = undefined;
    this.#bytes = next.length >= rest.length ? next : new Uint8Array(rest.length * 2);
    this.#view = viewOf(this.#bytes);
    this.#bytes.set(rest);
    this.#restart(this.#base + this.#wholeLength, rest.length);
    return run;
  }

  giveBack(run: Run): void {
    if (run !== this.#lent) throw new RangeError("Not the run that is out");
    this.#lent = undefined;
    this.#spare = new Uint8Array(run.bytes.buffer);
  }

  /** Everything has been written: goes on with nothing behind it. */
  spilled(): void {
    this.#restart(this.end, 0);
  }

  /** What lies before this position has been written: goes on with what is behind it. */
  dropBefore(position: number): void {
    const count = position - this.#base;
    this.#bytes.copyWithin(0, count, this.#length);
    this.#base = position;
    this.#length -= count;
    this.#wholeLength -= count;
  }

  /**
   * Reads the file as it will be, from memory where it is not written yet.
   * @param patches what the file has in another form as long as it does not count
   */
  readAt(
    file: ByteSource,
    into: Uint8Array,
    position: number,
    patches: readonly { readonly position: number; readonly bytes: Uint8Array }[],
  ): number {
    const stretches = [{ position: this.#base, bytes: this.#bytes.subarray(0, this.#length) }, ...patches];
    if (this.#lent !== undefined) stretches.push(this.#lent);
    let filled = 0;
    for (let count = 1; filled < into.length && count > 0; filled += count) {
      const at = position + filled;
      let rest = into.subarray(filled);
      let found: Uint8Array | undefined;
      for (const { position: start, bytes } of stretches) {
        if (at < start) rest = rest.subarray(0, start - at);
        else if (at < start + bytes.length) found = bytes.subarray(at - start, at - start + rest.length);
      }
      if (found !== undefined) rest.set(found);
      // Nothing counts behind the buffer's end, whatever the file may still hold there.
      count = found !== undefined ? found.length : at < this.#base ? file.readAt(rest, at) : 0;
    }
    return filled;
  }

  #restart(base: number, length: number): void {
    this.#base = base;
    this.#length = length;
    this.#wholeLength = 0;
    this.#transactions = 0;
  }
}
