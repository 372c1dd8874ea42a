/**
 * One direction of a simulated connection: bytes that the sender's side has taken, of which some have arrived.
 * Together they fill a bounded buffer, as the two sockets' buffers do. What arrives is cut and merged at any
 * byte. Behind the last byte may come an end: "eof" (the peer closed in order) or "reset".
 */
import type { Link } from "./link.ts";
import type { SeededRandom } from "./random.ts";

export type PipeEnd = "eof" | "reset";

export interface Receiver {
  /** Bytes or an end have arrived. */
  arrived(): void;
  /** False when nobody will ever read what arrives: the sender is to be told. */
  readonly listening: boolean;
  /** True when nobody even answers, the host being down. */
  readonly unreachable: boolean;
  /** Bytes came for somebody who is gone. */
  refuse(): void;
}

interface Batch {
  bytes: number;
  readonly timeMs: number;
}

export class Pipe {
  readonly #label: string;
  readonly #link: Link;
  readonly #random: SeededRandom;
  readonly #capacity: number;
  readonly #style: "whole" | "cut" | "tiny";
  readonly #chunks: Uint8Array[] = [];
  readonly #batches: Batch[] = [];
  #receiver: Receiver | undefined;
  /** Where in the first chunk the unread bytes begin. */
  #offset = 0;
  #length = 0;
  #arrived = 0;
  #delivered = 0;
  #busyUntilMs = 0;
  #lastArrivalMs = 0;
  #scheduled = false;
  #end: PipeEnd | undefined;
  #endArrived = false;

  constructor(label: string, link: Link, random: SeededRandom) {
    this.#label = label;
    this.#link = link;
    this.#random = random;
    this.#capacity = random.pick([2_048, 16_384, 65_536, 262_144]);
    this.#style = random.pick(["whole", "whole", "whole", "cut", "cut", "tiny"]);
  }

  attach(receiver: Receiver): void {
    this.#receiver = receiver;
  }

  /** How many bytes the sender's side takes now. */
  get room(): number {
    return this.#end === undefined ? this.#capacity - this.#length : 0;
  }

  /** How many bytes can be read now. */
  get readable(): number {
    return this.#arrived;
  }

  /** How many bytes have been taken and not read. */
  get length(): number {
    return this.#length;
  }

  /** The end, once all bytes before it have been read. */
  get ended(): PipeEnd | undefined {
    return this.#endArrived && this.#arrived === 0 ? this.#end : undefined;
  }

  /** Whether a reset has arrived, maybe behind bytes that have not been read. */
  get resetArrived(): boolean {
    return this.#endArrived && this.#end === "reset";
  }

  /** Takes bytes, at most {@link room}; they belong to the pipe from now on. */
  send(bytes: Uint8Array): void {
    this.#chunks.push(bytes);
    this.#length += bytes.length;
    this.#depart(bytes.length);
  }

  /**
   * No more bytes will come.
   * @param keep how many of the bytes under way still arrive; all unless given
   */
  finish(end: PipeEnd, keep = Infinity): void {
    if (this.#end === "reset" || this.#end === end) return;
    const dropped = this.#length - this.#arrived - keep;
    if (dropped > 0) this.#dropLast(dropped);
    this.#end = end;
    this.#endArrived = false;
    this.#depart(0);
  }

  /** Reads bytes that have arrived. @returns their count, at most {@link readable} */
  read(into: Uint8Array, limit: number): number {
    const count = Math.min(into.length, this.#arrived, limit);
    for (let filled = 0; filled < count;) {
      const chunk = this.#chunks[0]!;
      const part = chunk.subarray(this.#offset, this.#offset + count - filled);
      into.set(part, filled);
      filled += part.length;
      this.#offset += part.length;
      if (this.#offset === chunk.length) {
        this.#chunks.shift();
        this.#offset = 0;
      }
    }
    this.#length -= count;
    this.#arrived -= count;
    return count;
  }

  /** What has arrived and was not read is lost, as with some systems when a reset comes. */
  discard(): void {
    if (this.#arrived > 0) this.read(new Uint8Array(this.#arrived), Infinity);
  }

  /** Tries again to deliver: the receiving host is back. */
  retransmit(): void {
    if (this.#length > this.#arrived || this.#end !== undefined) this.#schedule(this.#link.latencyMs);
  }

  #depart(bytes: number): void {
    const { scheduler, latencyMs, bytesPerMs } = this.#link;
    this.#busyUntilMs = Math.max(this.#busyUntilMs, scheduler.nowMs) + bytes / bytesPerMs;
    const jitter = 1 + 0.2 * this.#random.unit();
    this.#lastArrivalMs = Math.max(this.#lastArrivalMs, this.#busyUntilMs + latencyMs * jitter);
    this.#batches.push({ bytes, timeMs: this.#lastArrivalMs });
    if (!this.#scheduled) this.#schedule(this.#lastArrivalMs - scheduler.nowMs);
  }

  #schedule(delayMs: number): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#link.scheduler.after(delayMs, () =>
      this.#link.pass(() => {
        this.#scheduled = false;
        this.#deliver();
      }));
  }

  /** Lets a part of what is due arrive. */
  #deliver(): void {
    const receiver = this.#receiver!;
    if (receiver.unreachable) return; // until the host is back
    const { scheduler } = this.#link;
    const now = scheduler.nowMs;
    const first = this.#batches[0];
    if (first !== undefined && first.timeMs > now) {
      this.#schedule(first.timeMs - now + 0.001); // not yet: rounding, or a retransmission that came early
      return;
    }
    let due = 0;
    let at = 0;
    while (at < this.#batches.length && this.#batches[at]!.timeMs <= now) due += this.#batches[at++]!.bytes;
    due = Math.min(due, this.#length - this.#arrived);
    if (!receiver.listening) {
      this.#batches.length = 0;
      if (due > 0) receiver.refuse();
      return;
    }
    const part = due === 0 ? 0 : this.#part(due);
    this.#takeBatches(part);
    this.#arrived += part;
    this.#delivered += part;
    scheduler.note(this.#label, "arrived", part);
    if (this.#end !== undefined && !this.#endArrived && this.#arrived === this.#length && part === due) {
      this.#endArrived = true;
      this.#batches.length = 0;
      scheduler.note(this.#label, this.#end);
    }
    const next = this.#batches[0];
    if (next !== undefined) this.#schedule(Math.max(next.timeMs - now, this.#random.unit() * 0.05));
    receiver.arrived();
  }

  /** How many of the bytes that are due arrive at once. */
  #part(due: number): number {
    const random = this.#random;
    if (this.#style === "whole") return due;
    // Byte by byte only at the beginning: a whole catch-up in such pieces would say nothing new.
    if (this.#style === "tiny" && this.#delivered < 300) return Math.min(due, random.between(1, 3));
    if (random.chance(0.2)) return Math.min(due, random.between(1, 16));
    return random.chance(0.5) ? due : random.between(1, due);
  }

  /** Takes delivered bytes off the batches; empty batches, which only bring an end, go when they are first. */
  #takeBatches(bytes: number): void {
    let rest = bytes;
    while (this.#batches.length > 0) {
      const first = this.#batches[0]!;
      if (first.bytes > rest) {
        first.bytes -= rest;
        return;
      }
      rest -= first.bytes;
      this.#batches.shift();
    }
  }

  /** Loses the last bytes under way. */
  #dropLast(bytes: number): void {
    let rest = bytes;
    this.#length -= bytes;
    while (rest > 0) {
      const last = this.#chunks.at(-1)!;
      const available = this.#chunks.length === 1 ? last.length - this.#offset : last.length;
      if (available > rest) {
        this.#chunks[this.#chunks.length - 1] = last.subarray(0, last.length - rest);
        break;
      }
      this.#chunks.pop();
      if (this.#chunks.length === 0) this.#offset = 0;
      rest -= available;
    }
    this.#trimBatches(bytes);
  }

  #trimBatches(bytes: number): void {
    let rest = bytes;
    while (rest > 0 && this.#batches.length > 0) {
      const last = this.#batches.at(-1)!;
      const taken = Math.min(rest, last.bytes);
      last.bytes -= taken;
      rest -= taken;
      if (last.bytes === 0) this.#batches.pop();
    }
  }
}
