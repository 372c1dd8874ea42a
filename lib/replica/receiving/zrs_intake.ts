/** Receiving by zrs2: a greeting, then whatever the source sends; empty messages say that we are still there. */
import { ProtocolError, UnavailableError, ZrsError } from "../../errors.ts";
import type { Connection } from "../../ports/mod.ts";
import { countedBefore, walkingReader } from "../../filestorage/mod.ts";
import { describeTid, formatTid, NO_TID, STATUS, type TransactionHead } from "../../zodb/mod.ts";
import { encodeGreeting, KEEP_ALIVE, StreamDecoder, type Version } from "../../zrs/mod.ts";
import { Incoming } from "./incoming.ts";
import {
  CompleteEnd,
  IdleEnd,
  type Intake,
  type IntakeContext,
  readWithin,
  WithinPackError,
} from "./intake.ts";
import type { Ports } from "../ports.ts";
import { withDeadline } from "../waiting.ts";

/** A source that refuses us, or cannot send what comes next, ends a connection much sooner. */
const IDLE_MS = 2_000;
/** After so much silence the source has most likely sent all it has. */
const CALM_MS = 1_000;

export class ZrsIntake implements Intake {
  readonly protocol: Version;
  readonly source = undefined;
  readonly #context: IntakeContext;
  /** Whether it has been told that this connection has brought all there was. */
  #calmTold = false;

  /** @param version `zrs2.1` says that we take blobs, without which a primary of zc.zrs that has some closes at once */
  constructor(context: IntakeContext, version: Version) {
    this.protocol = version;
    this.#context = context;
  }

  stop(): void {
    this.#context.connection.close();
  }

  async receive(): Promise<ZrsError> {
    const { connection, sink, storage, options, ports: { clock, log } } = this.#context;
    const start = storage.lastTid;
    const wanted = start === NO_TID ? "everything" : `what follows ${describeTid(start)}`;
    log.info(`Connected to ${connection.peer}, asking for ${wanted}`);
    const watch = this.#watch(start);
    const incoming = new Incoming(sink.restorer, { blobs: options.blobs, log, watch });
    const { once } = options;
    const last = once?.zrs2.lastTid;
    const goal = once === undefined ? undefined : last === undefined || once.until < last ? once.until : last;
    const decoder = new StreamDecoder(start);
    const chunk = new Uint8Array(options.readBytes);
    const keepAlive = new KeepAlive(
      this.#context.ports,
      connection,
      options.keepAliveMs,
      options.peerTimeoutMs,
    );
    try {
      once?.judge({ lastTid: last ?? NO_TID, end: undefined, fit: start === NO_TID ? "prefix" : "later" });
      await keepAlive.write(encodeGreeting(this.protocol, start));
      keepAlive.start();
      for (;;) {
        if (goal !== undefined && decoder.idle && decoder.lastTid >= goal) return new CompleteEnd("reached");
        const sinceMs = clock.monotonic();
        let count: number;
        using _calm = this.#tellOnceCalm(decoder, start);
        try {
          const [timeoutMs, silence] = this.#patience(decoder.idle, last);
          count = await readWithin(clock, connection, chunk, timeoutMs, silence);
        } catch (error) {
          const isSettled = once !== undefined && last === undefined && decoder.idle &&
            clock.monotonic() - sinceMs >= once.zrs2.settleMs;
          if (isSettled && error instanceof UnavailableError) throw new CompleteEnd("quiet");
          const quiet = decoder.idle && clock.monotonic() - sinceMs >= IDLE_MS;
          throw quiet && error instanceof UnavailableError ? new IdleEnd(error.message, error.facts) : error;
        }
        decoder.push(chunk, 0, count, incoming);
        await sink.settle();
        await this.#context.saveIndexWhenDue();
      }
    } catch (error) {
      if (error instanceof UnavailableError || error instanceof ProtocolError) return error;
      throw error;
    } finally {
      keepAlive.stop();
    }
  }

  /** How long the source may be silent now, undefined for as long as it likes, and what it is to be longer. */
  #patience(isIdle: boolean, lastTid: bigint | undefined): [timeoutMs: number | undefined, silence: string] {
    const { once, peerTimeoutMs } = this.#context.options;
    if (!isIdle) return [peerTimeoutMs, "the source stopped in the middle of a transaction"];
    if (once === undefined) return [undefined, ""];
    if (lastTid === undefined) return [once.zrs2.settleMs, "the source has sent nothing"];
    return [peerTimeoutMs, `the source, which should have ${describeTid(lastTid)}, has sent nothing`];
  }

  /**
   * Ends a stream that would go on for ever, where only some of it is wanted, and tells of a pack at the source.
   * @param start the last transaction that is here already
   * @returns what throws CompleteEnd at the first that is too late, WithinPackError, PackedAwayError where some may be missing before
   */
  #watch(start: bigint): (head: TransactionHead) => void {
    const { once } = this.#context.options;
    let last = start;
    let isFirst = true;
    let isTold = false;
    // A pack marks all that it leaves, from the beginning of the file on: what is marked and comes behind what is not
    // was packed in between.
    let isPacked = start === NO_TID || this.#isPacked();
    return ({ tid, status }) => {
      if (once !== undefined && tid > once.until) {
        const isWithinPack = !isFirst && isPacked && status === STATUS.packed;
        throw isWithinPack && !once.isStep ? new WithinPackError(once.until) : new CompleteEnd("reached");
      }
      if (!isPacked && status === STATUS.packed) {
        if (once === undefined && !isTold) this.#tellPacked(last, tid);
        else if (isFirst) once?.judge({ lastTid: NO_TID, end: undefined, fit: "gap" });
        isTold = true;
      }
      last = tid;
      isFirst = false;
      isPacked = status === STATUS.packed;
    };
  }

  /** zrs2 has no way to compare contents: whoever runs the replica must know what nobody has looked at. */
  #tellPacked(last: bigint, next: bigint): void {
    const { connection: { peer }, options: { path }, ports: { log } } = this.#context;
    const [here, there] = [describeTid(last), describeTid(next)];
    log.warning(
      `${peer} has been packed behind ${here}, the last transaction here, and goes on with ${there}. It cannot be ` +
        `known by zrs2 whether both have the same history up to there, nor what was packed away in between, which ` +
        `${path} does not get; zrs verify compares two files`,
      { peer, tid: formatTid(next) },
    );
  }

  /** Whether a pack wrote our own last transaction: then one that follows may come from the same pack. */
  #isPacked(): boolean {
    const { view: { generation: { file }, end }, lastTid } = this.#context.storage;
    if (lastTid === NO_TID) return false;
    return countedBefore(walkingReader(file, end), end)?.status ===
      STATUS.packed;
  }

  /**
   * The source does not say when it has sent all that it has. Where nothing more comes for a moment, after
   * something has come, that is most likely so; it is told once for each connection, when all is durable.
   */
  #tellOnceCalm(decoder: StreamDecoder, start: bigint): Disposable | undefined {
    const { ports, storage, options } = this.#context;
    const { lastTid } = decoder;
    if (this.#calmTold || !decoder.idle || lastTid === start) return undefined;
    let isCalm = false;
    const tell = () => {
      if (!isCalm || this.#calmTold || storage.lastTid < lastTid) return;
      this.#calmTold = true;
      ports.log.info(`${options.path} has all that the source has sent, up to ${describeTid(lastTid)}`);
    };
    const stack = new DisposableStack();
    stack.use(storage.subscribe(tell));
    stack.use(ports.clock.schedule(CALM_MS, () => {
      isCalm = true;
      tell();
    }));
    return stack;
  }
}

/** Writes the greeting and then empty messages, one at a time. */
class KeepAlive {
  readonly #ports: Ports;
  readonly #connection: Connection;
  readonly #everyMs: number;
  readonly #timeoutMs: number;
  #stopped = false;
  #timer: Disposable | undefined;

  constructor(ports: Ports, connection: Connection, everyMs: number, timeoutMs: number) {
    this.#ports = ports;
    this.#connection = connection;
    this.#everyMs = everyMs;
    this.#timeoutMs = timeoutMs;
  }

  async write(bytes: Uint8Array): Promise<void> {
    await this.#connection.write(bytes);
  }

  start(): void {
    if (this.#everyMs <= 0 || this.#stopped) return;
    this.#timer = this.#ports.clock.schedule(this.#everyMs, () => void this.#send());
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.[Symbol.dispose]();
  }

  async #send(): Promise<void> {
    try {
      await withDeadline(
        this.#ports.clock,
        this.#timeoutMs,
        () => this.#connection.close(),
        this.#connection.write(KEEP_ALIVE),
      );
      this.start();
    } catch (error) {
      if (!(error instanceof ZrsError)) throw error;
      // Whoever reads meets the same end, behind what the source may have said of it.
    }
  }
}
