/**
 * One secondary attached to a log: greeting, comparing the histories, then every transaction behind its last
 * one, oldest first, for as long as it stays. Holds two buffers and a window, however far behind or slow the
 * secondary is; drops it when it takes nothing for too long.
 */
import {
  type Generation,
  LOCATE_WINDOW_BYTES,
  type LogView,
  TransactionReader,
  Window,
} from "../filestorage/mod.ts";
import { DiskError, DivergedError, ProtocolError, UnavailableError, ZrsError } from "../errors.ts";
import type { TransactionLog } from "../filestorage/mod.ts";
import type { Connection } from "../ports/mod.ts";
import { describeTid, formatTid } from "../zodb/mod.ts";
import { encodeRefusal, GreetingDecoder } from "../zrs/mod.ts";
import { compareHistories, refusalReason } from "./histories.ts";
import { ChangedError, Outgoing } from "./outgoing.ts";
import type { Ports } from "./ports.ts";
import type { RepeatedLog } from "./repeated_log.ts";
import type { SharedLook } from "./shared_look.ts";
import { type PeerStatus, secondsBehind } from "./status.ts";
import { Bell, pauser, withDeadline, withProgress } from "./waiting.ts";

export interface FeedOptions {
  readonly blobs: "refuse" | "none";
  /** A peer that takes nothing, or does not greet, for so long is dropped. */
  readonly peerTimeoutMs: number;
  /** The size of each of the two buffers that a secondary costs. */
  readonly sendBytes: number;
  /** The log is itself a replica: a secondary ahead of it is let wait until it has caught up. */
  readonly chained: boolean;
}

/** What the feeds of one server have in common. */
export interface Shared {
  readonly repeated: RepeatedLog;
  readonly look: SharedLook;
  /** Takes a place among those that are served; undefined when there is none. */
  readonly admit: () => Disposable | undefined;
}

/** A peer that has greeted and is served. */
interface Attached {
  readonly protocol: string;
  readonly connectedMs: number;
  /** How far it has come; what is undefined is being found out. */
  progress: () => { tid: bigint; position?: number; generation?: Generation };
}

export class Feed {
  readonly #ports: Ports;
  readonly #log: TransactionLog;
  readonly #connection: Connection;
  readonly #options: FeedOptions;
  readonly #shared: Shared;
  readonly #greeting = new GreetingDecoder();
  readonly #bell = new Bell();
  #attached: Attached | undefined;
  /** Why the connection must end, as soon as that is known. */
  #ended: Error | undefined;

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
  }

  /** Serves until the peer goes, must be dropped, or {@link close} is called. Logs what happened; never throws. */
  async run(): Promise<void> {
    const { repeated } = this.#shared;
    const peer = this.#connection.peer;
    const listening = this.#listen();
    try {
      await this.#serve();
    } catch (error) {
      const reason = this.#ended ?? error;
      if (reason instanceof PeerLeft) this.#ports.log.info(`${peer}: disconnected`);
      else if (reason instanceof DivergedError) {
        repeated.tell("error", peer, `refused: ${reason.message}`, { ...reason.facts });
      } else if (reason instanceof ZrsError) {
        repeated.tell("warning", peer, `dropped: ${sentence(reason)}`);
      } else throw reason;
    } finally {
      this.#connection.close();
      await listening;
    }
  }

  /** Undefined until the peer has greeted and been given a place. */
  status(): PeerStatus | undefined {
    if (this.#attached === undefined) return undefined;
    const { protocol, connectedMs, progress } = this.#attached;
    const { tid, position, generation } = progress();
    const { end, lastTid, generation: present } = this.#log.view;
    const bytes = tid >= lastTid
      ? 0
      : position !== undefined && generation === present
      ? end - position
      : undefined;
    return {
      address: this.#connection.peer,
      protocol,
      connectedMs,
      sentTid: tid,
      position,
      lag: { bytes, seconds: secondsBehind(tid, lastTid) },
    };
  }

  /** Ends the connection at once. */
  close(): void {
    this.#end(new PeerLeft("Closed here"));
  }

  #end(reason: Error): void {
    this.#ended ??= reason;
    this.#connection.close();
    this.#bell.ring();
  }

  /** Reads what the peer says: its greeting, then keep-alives. */
  async #listen(): Promise<void> {
    const buffer = new Uint8Array(256);
    try {
      for (;;) {
        const count = await this.#connection.read(buffer);
        if (count === null) return this.#end(new PeerLeft("The peer closed the connection"));
        this.#greeting.push(buffer, 0, count);
        this.#bell.ring();
      }
    } catch (error) {
      if (error instanceof ZrsError) return this.#end(error instanceof ProtocolError ? error : lost(error));
      throw error;
    }
  }

  async #serve(): Promise<void> {
    const { clock, log } = this.#ports;
    const peer = this.#connection.peer;
    const timeoutMs = this.#options.peerTimeoutMs;
    const start = await withDeadline(
      clock,
      timeoutMs,
      () =>
        this.#end(new ProtocolError(`Cannot serve ${peer}: it did not greet within ${timeoutMs / 1000} s`)),
      this.#greeted(),
    );
    using place = this.#shared.admit();
    if (place === undefined) await this.#refuseForWantOfRoom();
    const attached: Attached = this.#attached = {
      protocol: start.version,
      connectedMs: clock.now(),
      progress: () => ({ tid: start.startTid }),
    };
    using changes = this.#log.subscribe(() => this.#bell.ring());
    void changes;
    let { position, generation } = await this.#compare(start.startTid);
    try {
      log.info(`${peer}: connected with ${start.version}, has ${describeTid(start.startTid)}`, {
        peer,
        tid: formatTid(start.startTid),
      });
      const outgoing = new Outgoing(generation, start.startTid, {
        blobs: this.#options.blobs,
        bufferBytes: this.#options.sendBytes,
        write: (bytes) => this.#write(bytes),
        log,
        pause: pauser(clock),
      });
      attached.progress = () => ({ tid: outgoing.lastTid, position, generation });
      for (;;) {
        const view = this.#log.view;
        if (view.generation !== generation) {
          await outgoing.flush();
          const next = await this.#compare(outgoing.lastTid);
          generation.release();
          ({ position, generation } = next);
          outgoing.switchTo(generation);
        } else if (position < view.end) {
          if (this.#ended !== undefined) throw this.#ended;
          position = await this.#send(outgoing, position, view.end);
        } else {
          await outgoing.flush();
          if (this.#log.view === view) await this.#wait();
        }
      }
    } finally {
      generation.release();
    }
  }

  /**
   * Sends one transaction. Where that fails, what is whole before it still gets there, and the reason.
   * @throws CorruptError, DiskError, UnavailableError
   */
  async #send(outgoing: Outgoing, position: number, end: number): Promise<number> {
    try {
      return await outgoing.send(position, end);
    } catch (error) {
      if (!(error instanceof ZrsError) || this.#ended !== undefined) throw error;
      const mayTell = await outgoing.giveUp();
      // What a failing disk says names paths that are nobody's business; and who is refused waits long before it
      // asks again, which after a rollback it should do at once.
      const isToTell = !(error instanceof DiskError || error instanceof ChangedError);
      if (mayTell && isToTell) await this.#write(encodeRefusal(sentence(error)));
      throw error;
    }
  }

  async #greeted(): Promise<{ version: string; startTid: bigint }> {
    for (;;) {
      const { greeting } = this.#greeting;
      if (greeting !== undefined) return greeting;
      await this.#wait();
    }
  }

  async #wait(): Promise<void> {
    if (this.#ended === undefined) await this.#bell.wait();
    if (this.#ended !== undefined) throw this.#ended;
  }

  /**
   * The position behind the secondary's last transaction in the log's present file, which is held for the
   * caller.
   * @throws DivergedError after telling the peer
   */
  async #compare(tid: bigint): Promise<{ position: number; generation: Generation }> {
    let lookedAgain = false;
    for (;;) {
      const view = this.#log.view;
      const generation = view.generation.hold();
      let keep = false;
      try {
        const reader = new TransactionReader(new Window(view.generation.file, view.end, LOCATE_WINDOW_BYTES));
        const comparison = await compareHistories(reader, view, tid, pauser(this.#ports.clock));
        if (comparison.kind === "shared" || comparison.kind === "beyond the pack") {
          if (comparison.kind === "beyond the pack") this.#noteBeyondPack(tid, view);
          keep = true;
          return { position: comparison.position, generation };
        }
        if (this.#log.view !== view) continue; // it has changed meanwhile: look again before refusing
        if (!lookedAgain) {
          lookedAgain = true;
          await this.#lookAgain();
          continue;
        }
        if (comparison.kind === "ahead" && this.#options.chained) {
          await this.#waitUntilReached(tid);
          continue;
        }
        const reason = refusalReason(comparison, tid, view.lastTid);
        await this.#write(encodeRefusal(reason));
        throw new DivergedError(reason, { tid });
      } finally {
        if (!keep) generation.release();
      }
    }
  }

  /** A peer that began with a copy of the source's file may know of it earlier than we do. */
  async #lookAgain(): Promise<void> {
    let done = false;
    using _question = this.#shared.look.ask(() => {
      done = true;
      this.#bell.ring();
    });
    while (!done) await this.#wait();
  }

  async #refuseForWantOfRoom(): Promise<never> {
    const reason = "this source serves as many secondaries already as it may";
    await this.#write(encodeRefusal(reason));
    throw new UnavailableError(`Cannot serve one more: ${reason}`);
  }

  #noteBeyondPack(tid: bigint, view: LogView): void {
    this.#shared.repeated.tell(
      "warning",
      this.#connection.peer,
      `beyond the pack: its last transaction is ${describeTid(tid)}, which is not ` +
        `here any more or never was; tids alone cannot tell. It gets what is later, up to ` +
        describeTid(view.lastTid),
      { tid: formatTid(tid), lastTid: formatTid(view.lastTid) },
    );
  }

  /** A chained node lags: its own source will bring it there. */
  async #waitUntilReached(tid: bigint): Promise<void> {
    this.#ports.log.info(
      `${this.#connection.peer}: ahead of this replica: has ${describeTid(tid)}, here the last is ` +
        `${describeTid(this.#log.view.lastTid)}; waits until this replica has caught up`,
    );
    while (this.#log.view.lastTid < tid) await this.#wait();
  }

  async #write(bytes: Uint8Array): Promise<void> {
    const timeoutMs = this.#options.peerTimeoutMs;
    const { peer } = this.#connection;
    await withProgress(
      this.#ports.clock,
      timeoutMs,
      () => this.#connection.written,
      () =>
        this.#end(new UnavailableError(`Cannot send to ${peer}: it took nothing for ${timeoutMs / 1000} s`)),
      this.#connection.write(bytes).catch((error) => {
        throw error instanceof ZrsError ? lost(error) : error;
      }),
    );
  }
}

/** The peer went away, or we let it go: nothing is wrong. */
class PeerLeft extends UnavailableError {}

function lost(error: ZrsError): Error {
  return error instanceof UnavailableError ? new PeerLeft(error.message, { cause: error }) : error;
}

/** A failure's message with its hint, for the log. */
export function sentence(error: ZrsError): string {
  return error.hint === undefined ? error.message : `${error.message}; ${error.hint}`;
}
