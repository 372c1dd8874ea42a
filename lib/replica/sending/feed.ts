/**
 * One connection that a server has accepted: hears which protocol the secondary speaks, lets that serve it, ends
 * it when it takes nothing for too long, and logs what became of it.
 */
import type { Generation, TransactionLog } from "../../filestorage/mod.ts";
import {
  CorruptError,
  DiskError,
  DivergedError,
  ProtocolError,
  UnavailableError,
  ZrsError,
} from "../../errors.ts";
import { protocolOf } from "../../native/mod.ts";
import type { Connection } from "../../ports/mod.ts";
import { wantedBeatMs } from "../beats.ts";
import { MissingBlobError } from "../blob_use.ts";
import { NativeFeed } from "./native_feed.ts";
import type { Ports } from "../ports.ts";
import { type FeedOptions, type Line, PeerLeft, type Service, type Shared } from "./service.ts";
import { type PeerStatus, secondsBehind } from "../status.ts";
import { ChangedError } from "../still_there.ts";
import { Bell, sleep, withDeadline, withProgress } from "../waiting.ts";
import { ZrsFeed } from "./zrs_feed.ts";

/** A goodbye that is not taken within so long is not waited for. */
const FAREWELL_MS = 1_000;

export class Feed implements Line {
  readonly #ports: Ports;
  readonly #log: TransactionLog;
  readonly #connection: Connection;
  readonly #options: FeedOptions;
  readonly #shared: Shared;
  readonly #bell = new Bell();
  #service: Service | undefined;
  /** Why the connection must end, as soon as that is known. */
  #ended: Error | undefined;
  #writing = false;
  /** Resolves when the last write so far is over, whatever became of it. */
  #lastWrite: Promise<void> = Promise.resolve();
  /** While a limit keeps us from writing. */
  #resting: AbortController | undefined;
  readonly #connectedMs: number;
  beatMs: number;
  #farewell: Promise<void> | undefined;

  constructor(
    ports: Ports,
    log: TransactionLog,
    connection: Connection,
    options: FeedOptions,
    shared: Shared,
  ) {
    this.#ports = ports;
    this.#log = log;
    this.#connection = connection;
    this.#options = options;
    this.#shared = shared;
    this.#connectedMs = ports.clock.now();
    this.beatMs = wantedBeatMs(options.peerTimeoutMs);
  }

  /** Serves until the peer goes, must be dropped, or {@link close} is called. Logs what happened; never throws. */
  async run(): Promise<void> {
    const { repeated } = this.#shared;
    const { peer } = this;
    const listening = this.#listen();
    try {
      await (await this.#greeted()).serve();
    } catch (error) {
      // Who is refused leaves, maybe before we are here: the refusal tells more.
      const hasLeft = this.#ended === undefined || this.#ended instanceof PeerLeft;
      const reason = hasLeft ? error : this.#ended;
      if (reason instanceof PeerLeft) this.#ports.log.info(`${peer}: disconnected`);
      else if (reason instanceof DivergedError) {
        repeated.tell("error", peer, `refused: ${reason.message}`, { ...reason.facts });
      } else if (reason instanceof ZrsError) {
        repeated.tell("warning", peer, `dropped: ${sentence(reason)}`);
      } else throw reason;
    } finally {
      await this.#farewell;
      this.#connection.close();
      await listening;
    }
  }

  /** Undefined until the peer has greeted and been given a place. */
  status(): PeerStatus | undefined {
    const progress = this.#service?.progress;
    if (progress === undefined) return undefined;
    const { sentTid, receivedTid, durableTid, position, generation } = progress;
    const { end, lastTid, generation: present } = this.#log.view;
    const tid = durableTid ?? sentTid;
    const bytes = tid >= lastTid
      ? 0
      : position !== undefined && generation === present
      ? end - position
      : undefined;
    return {
      address: this.peer,
      protocol: this.#service!.protocol,
      connectedMs: this.#connectedMs,
      sentTid,
      position,
      receivedTid,
      durableTid,
      lag: { bytes, seconds: secondsBehind(tid, lastTid) },
    };
  }

  /** Ends the connection: with a goodbye where there is one and nothing is under way, else at once. */
  close(): void {
    this.#leave(new PeerLeft("Closed here"), this.#service?.farewell);
  }

  #leave(reason: Error, words: Uint8Array | undefined): void {
    if (words === undefined || this.isWriting || this.hasEnded) return this.end(reason);
    this.#ended = reason;
    this.#farewell = this.#say(words);
    this.#bell.ring();
  }

  async #say(farewell: Uint8Array): Promise<void> {
    const { clock } = this.#ports;
    try {
      const said = this.#connection.write(farewell);
      await withDeadline(clock, FAREWELL_MS, () => this.#connection.close(), said);
    } catch {
      // Gone already, which comes to the same.
    }
  }

  get peer(): string {
    return this.#connection.peer;
  }

  get hasEnded(): boolean {
    return this.#ended !== undefined;
  }

  check(): void {
    if (this.#ended !== undefined) throw this.#ended;
  }

  end(reason: Error): void {
    this.#ended ??= reason;
    this.#resting?.abort();
    this.#connection.close();
    this.#bell.ring();
  }

  ring(): void {
    this.#bell.ring();
  }

  async wait(): Promise<void> {
    if (this.#ended === undefined) await this.#bell.wait();
    this.check();
  }

  get isWriting(): boolean {
    return this.#writing || this.#resting !== undefined;
  }

  async write(bytes: Uint8Array): Promise<void> {
    const before = this.#lastWrite;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#lastWrite = promise;
    await before;
    try {
      await this.#writeThrottled(bytes);
    } finally {
      resolve();
    }
  }

  async #writeThrottled(bytes: Uint8Array): Promise<void> {
    const { throttle } = this.#shared;
    if (throttle === undefined) return await this.#write(bytes);
    for (let from = 0; from < bytes.length;) {
      const to = Math.min(bytes.length, from + throttle.pieceBytes);
      let restMs = throttle.take(to - from);
      // With many peers at a low rate the turn comes late: one byte of the piece goes ahead, to show that we are here.
      for (; restMs >= this.beatMs; restMs -= this.beatMs) {
        await this.#rest(this.beatMs);
        if (from < to - 1) await this.#write(bytes.subarray(from, ++from));
      }
      await this.#rest(restMs);
      await this.#write(bytes.subarray(from, to));
      from = to;
    }
  }

  /** Waits, or less when the connection ends meanwhile. */
  async #rest(ms: number): Promise<void> {
    const ended = new AbortController();
    this.#resting = ended;
    await sleep(this.#ports.clock, ms, ended.signal);
    this.#resting = undefined;
  }

  async #write(bytes: Uint8Array): Promise<void> {
    this.check();
    const timeoutMs = this.#options.peerTimeoutMs;
    const { peer } = this;
    this.#writing = true;
    try {
      await withProgress(
        this.#ports.clock,
        timeoutMs,
        () => this.#connection.written,
        () =>
          this.end(new UnavailableError(`Cannot send to ${peer}: it took nothing for ${timeoutMs / 1000} s`)),
        this.#connection.write(bytes).catch((error) => {
          throw error instanceof ZrsError ? lost(error) : error;
        }),
      );
    } finally {
      this.#writing = false;
    }
  }

  /** A peer that began with a copy of the source's file may know of it earlier than we do. */
  async lookAgain(): Promise<void> {
    let done = false;
    using _question = this.#shared.look.ask(() => {
      done = true;
      this.#bell.ring();
    });
    while (!done) await this.wait();
  }

  async isOvertaken(error: unknown, generation: Generation): Promise<boolean> {
    if (error instanceof ChangedError) return true;
    // A pack removes the files of what it removes, once the new file is in place.
    if (!(error instanceof CorruptError) && !(error instanceof MissingBlobError)) return false;
    await this.lookAgain();
    return this.#log.view.generation !== generation;
  }

  /**
   * What a failing disk says names paths that are nobody's business.
   */
  async tellFailure(error: unknown, encode: (reason: string) => Uint8Array): Promise<void> {
    if (!(error instanceof ZrsError) || error instanceof DiskError) return;
    await this.write(encode(error instanceof MissingBlobError ? error.told : sentence(error)));
  }

  /** Waits until the secondary has greeted. */
  async #greeted(): Promise<Service> {
    const timeoutMs = this.#options.peerTimeoutMs;
    const greeted = async () => {
      while (this.#service === undefined) await this.wait();
      await this.#service.greeted();
      return this.#service;
    };
    const { peer } = this;
    return await withDeadline(
      this.#ports.clock,
      timeoutMs,
      () =>
        this.end(new ProtocolError(`Cannot serve ${peer}: it did not greet within ${timeoutMs / 1000} s`)),
      greeted(),
    );
  }

  /** Reads what the peer says, and gives it to the protocol. */
  async #listen(): Promise<void> {
    const buffer = new Uint8Array(4096);
    let begun: Uint8Array = new Uint8Array();
    try {
      for (;;) {
        const count = await this.#connection.read(buffer);
        if (count === null) return this.end(new PeerLeft("The peer closed the connection"));
        if (this.#service !== undefined) {
          this.#service.push(buffer, 0, count);
        } else {
          begun = new Uint8Array([...begun, ...buffer.subarray(0, count)]);
          this.#begin(begun);
        }
        this.#bell.ring();
      }
    } catch (error) {
      if (!(error instanceof ZrsError)) throw error;
      if (!(error instanceof ProtocolError)) return this.end(lost(error));
      this.#leave(error, this.#service?.complaint(error.message));
    }
  }

  #begin(begun: Uint8Array): void {
    const protocol = protocolOf(begun);
    if (protocol === undefined) return;
    const Protocol = protocol === "native" ? NativeFeed : ZrsFeed;
    this.#service = new Protocol(this.#ports, this.#log, this, this.#options, this.#shared);
    this.#service.push(begun, 0, begun.length);
  }
}

function lost(error: ZrsError): Error {
  return error instanceof UnavailableError ? new PeerLeft(error.message, { cause: error }) : error;
}

/** A failure's message with its hint, for the log. */
export function sentence(error: ZrsError): string {
  return error.hint === undefined ? error.message : `${error.message}; ${error.hint}`;
}
