/**
 * How far two files are the same byte for byte, at the same positions: blocks are compared, and of transactions only
 * the lengths and statuses are read.
 */
import { commonLength, readU64 } from "../../bytes/mod.ts";
import { STATUS } from "../../zodb/mod.ts";
import { Block } from "./compare_side.ts";
import type { Readable } from "../history.ts";
import { MAGIC, TRAILER_SIZE, TRANSACTION } from "../layout.ts";
import { isFinalStatus } from "../transaction.ts";

const BLOCK_BYTES = 1024 * 1024;
/** Blocks begin small and grow, for where they differ all has been read for nothing. */
const FIRST_BLOCK_BYTES = 16 * 1024;

/** What whoever compares is told. */
export interface BlockListener {
  /** A transaction that counts is the same in both. */
  passed(tid: bigint, isPacked: boolean): void;
  /** So many bytes have been compared, up to a position or beyond. */
  pauseAfter(bytes: number, position: number): Promise<void>;
}

/** Both files must stay open as long as it is used. */
export class BlockComparison {
  readonly #here: Readable;
  readonly #there: Readable;
  readonly #listener: BlockListener;
  #blocks: { readonly here: Block; readonly there: Block } | undefined;

  constructor(here: Readable, there: Readable, listener: BlockListener) {
    this.#here = here;
    this.#there = there;
    this.#listener = listener;
  }

  /** Whether the bytes before the first transaction are the same, all of them. */
  hasSameMagic(): boolean {
    return this.#sameBytes(0, Math.min(MAGIC.length, this.#commonEnd)) === MAGIC.length;
  }

  /** @returns the end of the last transaction that is the same, of those from `start` on */
  async sameUntil(start: number): Promise<number> {
    const limit = this.#commonEnd;
    const { view } = this.#needBlocks().here;
    let size = FIRST_BLOCK_BYTES;
    let at = start;
    while (at < limit) {
      const count = Math.min(size, limit - at);
      const same = this.#sameBytes(at, count);
      if (same < 0) return at;
      await this.#listener.pauseAfter(count, at);
      let passed = 0;
      let length = 0;
      while (passed + TRANSACTION.size <= same) {
        length = readU64(view, passed + TRANSACTION.length) + TRAILER_SIZE;
        const status = view.getUint8(passed + TRANSACTION.status);
        if (!isFinalStatus(status) || length < TRANSACTION.size + TRAILER_SIZE) return at + passed;
        if (passed + length > same) break;
        const trailer = readU64(view, passed + length - TRAILER_SIZE);
        if (trailer !== length - TRAILER_SIZE) return at + passed;
        if (status !== STATUS.undone) this.#count(view, passed, status);
        passed += length;
      }
      at += passed;
      if (same < count) return at;
      if (passed === 0 && count === limit - at) return at; // one of the files ends within it
      if (passed === 0 && size === BLOCK_BYTES) {
        if (at + length > limit || !await this.#isSameStretch(at, length)) return at;
        const status = view.getUint8(TRANSACTION.status);
        if (status !== STATUS.undone) this.#count(view, 0, status);
        at += length;
      }
      size = Math.min(BLOCK_BYTES, size * 4);
    }
    return at;
  }

  /**
   * Finds the first byte that differs, from a position on, where there is one.
   * @returns its position, and what it is in both; undefined behind the end of one
   */
  async differenceBehind(start: number): Promise<{
    readonly position: number;
    readonly byteHere: number | undefined;
    readonly byteThere: number | undefined;
  }> {
    let position = start;
    for (;; position += BLOCK_BYTES) {
      const count = Math.min(BLOCK_BYTES, Math.max(0, this.#commonEnd - position));
      const same = this.#sameBytes(position, count);
      if (same < count || count < BLOCK_BYTES) {
        position += Math.max(0, same);
        break;
      }
      await this.#listener.pauseAfter(count, position);
    }
    return { position, byteHere: byteAt(this.#here, position), byteThere: byteAt(this.#there, position) };
  }

  #count(view: DataView, offset: number, status: number): void {
    this.#listener.passed(view.getBigUint64(offset), status === STATUS.packed);
  }

  async #isSameStretch(position: number, length: number): Promise<boolean> {
    for (let done = 0; done < length;) {
      const count = Math.min(BLOCK_BYTES, length - done);
      if (this.#sameBytes(position + done, count) < count) return false;
      done += count;
      await this.#listener.pauseAfter(count, position + done);
    }
    // The caller looks at the header again, which has been read over.
    return this.#sameBytes(position, TRANSACTION.size) === TRANSACTION.size;
  }

  /** Reads a block of both. @returns how many of its bytes are the same before one differs; -1: it cannot be read */
  #sameBytes(position: number, count: number): number {
    const { here, there } = this.#needBlocks();
    if (this.#here.file.readAt(here.bytes.subarray(0, count), position) < count) return -1;
    if (this.#there.file.readAt(there.bytes.subarray(0, count), position) < count) return -1;
    return commonLength(here.view, 0, there.view, 0, count);
  }

  /** Room is made when it is first needed: positions may differ from the beginning on. */
  #needBlocks(): { readonly here: Block; readonly there: Block } {
    return this.#blocks ??= { here: new Block(BLOCK_BYTES), there: new Block(BLOCK_BYTES) };
  }

  get #commonEnd(): number {
    return Math.min(this.#here.end, this.#there.end);
  }
}

function byteAt({ file, end }: Readable, position: number): number | undefined {
  const one = new Uint8Array(1);
  return position < end && file.readAt(one, position) === 1 ? one[0] : undefined;
}
