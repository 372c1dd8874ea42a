/**
 * One end of a simulated connection. It watches how its buffers are used: a buffer being written must not
 * change before the write has resolved; a buffer being read into is filled with rubbish at once, gets its
 * bytes only when the read resolves, and must not be used for anything else before. Two reads or two writes
 * at a time count as bugs, too.
 */
import { Buffer } from "node:buffer";
import { UnavailableError } from "../../lib/errors.ts";
import type { Connection } from "../../lib/ports/mod.ts";
import { type Life, never } from "./life.ts";
import type { Pipe, Receiver } from "./pipe.ts";
import type { SeededRandom } from "./random.ts";
import type { Scheduler } from "./scheduler.ts";

/** What a buffer holds while a read into it is pending. */
export const RUBBISH = 0xee;

interface PendingRead {
  readonly into: Uint8Array;
  readonly resolve: (count: number | null) => void;
  readonly reject: (error: Error) => void;
  /** A resolution is on its way. */
  scheduled: boolean;
}

interface PendingWrite {
  readonly bytes: Uint8Array;
  /** The bytes as they were when the write was called. */
  readonly copy: Uint8Array;
  accepted: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export interface EndOptions {
  readonly scheduler: Scheduler;
  readonly random: SeededRandom;
  readonly life: Life;
  readonly host: string;
  readonly peer: string;
  readonly peerHost: string;
  /** Whether a host is switched off. */
  readonly isDown: (host: string) => boolean;
}

export class SimulatedConnection implements Connection, Receiver {
  readonly peer: string;
  written = 0;
  readonly host: string;
  readonly peerHost: string;
  readonly life: Life;
  readonly outgoing: Pipe;
  readonly incoming: Pipe;
  readonly #options: EndOptions;
  readonly #scheduler: Scheduler;
  readonly #random: SeededRandom;
  readonly #forget: () => void;
  /** The direction back is where this end's bytes make room again. */
  #other: SimulatedConnection | undefined;
  #state: "open" | "closed" | "broken" = "open";
  /** Cut on the way: this end does not know it yet, and its writes lead nowhere. */
  #severed = false;
  /** A reset has come, and bytes that came before it can still be read. */
  #writable = true;
  #read: PendingRead | undefined;
  #write: PendingWrite | undefined;

  constructor(options: EndOptions, outgoing: Pipe, incoming: Pipe) {
    this.#options = options;
    this.peer = options.peer;
    this.host = options.host;
    this.peerHost = options.peerHost;
    this.life = options.life;
    this.#scheduler = options.scheduler;
    this.#random = options.random;
    this.outgoing = outgoing;
    this.incoming = incoming;
    incoming.attach(this);
    this.#forget = options.life.onEnd(() => this.#abandon());
  }

  /** Names the two ends to each other. */
  static join(a: SimulatedConnection, b: SimulatedConnection): void {
    a.#other = b;
    b.#other = a;
  }

  get listening(): boolean {
    return this.#state === "open" && this.life.alive;
  }

  get unreachable(): boolean {
    return this.#options.isDown(this.host);
  }

  /** Whether neither end is used any more. */
  get over(): boolean {
    return !this.listening && !(this.#other?.listening ?? false);
  }

  read(into: Uint8Array): Promise<number | null> {
    this.life.check();
    if (into.length === 0) return this.#bug("A read into an empty buffer can never end");
    if (this.#read !== undefined) return this.#bug("Two reads of one connection are pending");
    if (this.#state !== "open") return Promise.reject(this.#gone("read from"));
    into.fill(RUBBISH);
    return new Promise((resolve, reject) => {
      this.#read = { into, resolve, reject, scheduled: false };
      if (this.incoming.readable > 0 || this.incoming.ended !== undefined) this.#answerRead(0.001);
    });
  }

  write(bytes: Uint8Array): Promise<void> {
    this.life.check();
    if (this.#write !== undefined) return this.#bug("Two writes to one connection are pending");
    if (this.#state !== "open" || !this.#writable) return Promise.reject(this.#gone("write to"));
    return new Promise((resolve, reject) => {
      this.#write = { bytes, copy: bytes.slice(), accepted: 0, resolve, reject };
      this.pump();
    });
  }

  close(): void {
    if (this.#state === "closed" || !this.life.alive) return;
    const wasOpen = this.#state === "open";
    this.#state = "closed";
    this.#forget();
    this.#rejectPending("closed here");
    if (wasOpen) this.#leave();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Takes more of a pending write, as far as there is room. */
  pump(): void {
    const write = this.#write;
    if (write === undefined || this.#state !== "open" || !this.life.alive) return;
    if (this.#severed) {
      this.#scheduler.after(this.#random.unit() * 50, () => this.break());
      return;
    }
    const count = Math.min(this.outgoing.room, write.bytes.length - write.accepted);
    if (count === 0 && write.bytes.length > 0) return;
    this.#checkUntouched(write, write.accepted, write.accepted + count);
    if (count > 0) this.outgoing.send(write.copy.subarray(write.accepted, write.accepted + count));
    write.accepted += count;
    this.written += count;
    if (write.accepted < write.bytes.length) return;
    this.#scheduler.after(this.#random.unit() * 0.1, () => {
      if (this.#write !== write || !this.life.alive) return;
      this.#checkUntouched(write, 0, write.bytes.length);
      this.#write = undefined;
      write.resolve();
    });
  }

  arrived(): void {
    if (!this.listening) return;
    if (!this.incoming.resetArrived) return this.#answerRead(0);
    // Some systems still let the process read what came before the reset, others do not.
    if (this.incoming.readable === 0 || this.#random.chance(0.5)) return this.break();
    this.#writable = false;
    this.#rejectWrite("the connection was reset");
    this.#answerRead(0);
  }

  refuse(): void {
    this.outgoing.finish("reset", 0);
  }

  /** The connection is gone, as this end sees it. */
  break(): void {
    if (this.#state !== "open") return;
    this.#state = "broken";
    this.#forget();
    if (this.life.alive) this.#rejectPending("the connection was reset");
  }

  /** Something between the ends breaks the connection: each end learns of it in one way or another. */
  cut(): void {
    if (!this.listening) return;
    this.#severed = true;
    const keep = this.#random.pick([0, this.#random.int(this.outgoing.length + 1), Infinity]);
    this.outgoing.finish(this.#random.pick(["eof", "reset", "reset"]), keep);
    this.pump();
  }

  /** The process has ended. Its machine closes the connection, unless the machine is down, too. */
  #abandon(): void {
    if (this.#state !== "open") return;
    this.#state = "closed";
    this.#read = undefined;
    this.#write = undefined;
    if (!this.unreachable) this.#leave();
    else if (this.#random.chance(0.3)) this.outgoing.finish("reset", 0);
  }

  /** Ends the outgoing direction in order, or by a reset when the peer's bytes have not all been read. */
  #leave(): void {
    const unread = this.incoming.length > 0;
    if (unread && this.#random.chance(0.5)) {
      this.outgoing.finish("reset", this.#random.chance(0.5) ? 0 : Infinity);
    } else {
      this.outgoing.finish("eof");
    }
    // What comes from now on meets a closed socket, and is answered with a reset.
    this.incoming.discard();
    this.#other?.pump();
  }

  #answerRead(delayMs: number): void {
    const read = this.#read;
    if (read === undefined || read.scheduled) return;
    if (delayMs === 0) return this.#resolveRead(read);
    read.scheduled = true;
    this.#scheduler.after(delayMs, () => this.#resolveRead(read));
  }

  #resolveRead(read: PendingRead): void {
    if (this.#read !== read || !this.listening) return;
    read.scheduled = false;
    if (this.incoming.readable === 0) {
      const end = this.incoming.ended;
      if (end === "reset") return this.break();
      if (end === undefined) return;
      this.#read = undefined;
      read.resolve(null);
      return;
    }
    for (let i = Math.min(read.into.length, 64) - 1; i >= 0; i--) {
      if (read.into[i] !== RUBBISH) {
        this.#scheduler.fail(
          new Error(`A buffer was used for something else while ${this.peer} was read into it`),
        );
      }
    }
    this.#read = undefined;
    const limit = this.#random.chance(0.9) ? Infinity : 1 + this.#random.int(this.incoming.readable);
    const count = this.incoming.read(read.into, limit);
    this.#other?.pump();
    read.resolve(count);
  }

  #rejectPending(why: string): void {
    const read = this.#read;
    this.#read = undefined;
    read?.reject(new UnavailableError(`Cannot read from ${this.peer}: ${why}`, { peer: this.peer }));
    this.#rejectWrite(why);
  }

  #rejectWrite(why: string): void {
    const write = this.#write;
    this.#write = undefined;
    write?.reject(new UnavailableError(`Cannot write to ${this.peer}: ${why}`, { peer: this.peer }));
  }

  #checkUntouched(write: PendingWrite, start: number, end: number): void {
    if (Buffer.compare(write.bytes.subarray(start, end), write.copy.subarray(start, end)) === 0) return;
    this.#scheduler.fail(new Error(`A buffer was changed while it was being written to ${this.peer}`));
  }

  #gone(action: string): UnavailableError {
    const why = this.#state === "closed" ? "closed here" : "the connection was reset";
    return new UnavailableError(`Cannot ${action} ${this.peer}: ${why}`, { peer: this.peer });
  }

  #bug<T>(what: string): Promise<T> {
    this.#scheduler.fail(new Error(`${what} (${this.host} to ${this.peer})`));
    return never();
  }
}
