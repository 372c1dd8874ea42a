/**
 * What a secondary gets behind the welcome of the native stream: every transaction behind its last one, from one
 * file, as bytes of it where the secondary's own file is a prefix of it, else record by record; and word of when that
 * is all. Hears how far it is durable there.
 */
import type { Generation, LogView, TransactionLog } from "../../filestorage/mod.ts";
import {
  type Acknowledgement,
  encodeControl,
  type Hello,
  MAX_RUN_BYTES,
  Milestones,
  NativeEncoder,
} from "../../native/mod.ts";
import type { Ports } from "../ports.ts";
import { Outgoing } from "./outgoing.ts";
import { OutgoingBlobs } from "./outgoing_blobs.ts";
import { Pace } from "./pace.ts";
import { RawOutgoing } from "./raw_outgoing.ts";
import type { Resumption } from "./raw_start.ts";
import { type FeedOptions, type Line, PeerLeft, type Progress, type Shared } from "./service.ts";

/** Larger buffers would make frames of more than they may have. */
const MAX_BUFFER_BYTES = 1024 * 1024;

/**
 * So many runs or transactions may be under way to the secondary's disk: each is kept in mind until it is
 * acknowledged. Far more than one that acknowledges what it has ever leaves open.
 */
const MAX_UNACKNOWLEDGED = 100_000;

const CHANGED = "this source's file has been packed, replaced or rolled back";

/** What the stream works with, as the connection has it. */
export interface StreamContext {
  readonly ports: Ports;
  readonly log: TransactionLog;
  readonly line: Line;
  readonly options: FeedOptions;
  readonly shared: Shared;
  /** Lets others work. @throws why the connection has ended */
  readonly pause: () => Promise<void>;
}

/** What is to be sent, and how. */
export interface StreamStart {
  readonly hello: Hello;
  /** The file, which the caller holds: behind another one the secondary asks anew. */
  readonly generation: Generation;
  readonly position: number;
  /** Whether bytes are sent as they lie in the file. */
  readonly raw: boolean;
  /** The rest of a run that the secondary has the beginning of; only where `raw`. */
  readonly resumption: Resumption | undefined;
  /** What to send in place of all that the log shows and will show. */
  readonly goal: LogView | undefined;
}

export class NativeStream {
  readonly #log: TransactionLog;
  readonly #line: Line;
  readonly #start: StreamStart;
  readonly #encoder = new NativeEncoder();
  readonly #milestones: Milestones;
  readonly #raw: RawOutgoing | undefined;
  readonly #outgoing: RawOutgoing | Outgoing;
  #position: number;

  constructor({ ports, log, line, options, shared, pause }: StreamContext, start: StreamStart) {
    const { hello, generation } = start;
    this.#log = log;
    this.#line = line;
    this.#start = start;
    this.#position = start.position;
    this.#milestones = new Milestones(hello.lastTid);
    const encoder = this.#encoder;
    const pace = new Pace(ports.clock, hello.capabilities.includes("zstd") ? options.compress : "off");
    encoder.isCompressing = pace.isCompressing;
    const sending = {
      blobs: new OutgoingBlobs({
        supply: options.blobs,
        wanted: hello.blobs,
        begun: hello.begunBlobs,
        marksMissing: hello.missingBlobs === "mark",
        isOvertaken: (error) => line.isOvertaken(error, generation),
        unreadable: shared.unreadableBlobs,
        log: ports.log,
        pause,
      }),
      bufferBytes: Math.min(options.sendBytes, MAX_BUFFER_BYTES),
      write: async (bytes: Uint8Array) => {
        await pace.measure(bytes.length, line.write(bytes));
        encoder.isCompressing = pace.isCompressing;
      },
    };
    this.#raw = start.raw
      ? new RawOutgoing(generation, hello.lastTid, encoder, {
        ...sending,
        runBytes: Math.min(hello.runBytes, MAX_RUN_BYTES),
        clock: ports.clock,
      })
      : undefined;
    this.#outgoing = this.#raw ??
      new Outgoing(generation, hello.lastTid, encoder, { ...sending, log: ports.log, pause });
  }

  get progress(): Progress {
    const { generation, position, raw } = this.#start;
    return {
      sentTid: this.#outgoing.lastTid,
      receivedTid: this.#milestones.received,
      durableTid: this.#milestones.durable,
      position: raw ? this.#milestones.durablePosition ?? position : this.#position,
      generation,
    };
  }

  /** The last transaction that is on the secondary's disk. */
  get durable(): bigint {
    return this.#milestones.durable;
  }

  /** @throws ProtocolError for what was never sent */
  acknowledged(acknowledgement: Acknowledgement): void {
    this.#milestones.take(acknowledgement);
  }

  /** Sends what there is and what comes. @throws ZrsError why that ends */
  async run(): Promise<never> {
    const { generation, goal } = this.#start;
    const outgoing = this.#outgoing;
    let rest = this.#start.resumption;
    let told: LogView | undefined;
    for (;;) {
      const present = this.#log.view;
      const view = goal ?? present;
      if (present.generation !== generation) {
        await outgoing.flush();
        return await this.#sendAway();
      }
      if (this.#position < view.end && this.#milestones.waiting >= MAX_UNACKNOWLEDGED) {
        await outgoing.flush();
        await this.#line.wait();
      } else if (this.#position < view.end) {
        this.#line.check();
        const begun = rest;
        rest = undefined;
        this.#position = await this.#sendOne(() =>
          begun === undefined ? outgoing.send(this.#position, view.end) : this.#raw!.resume(begun, view.end)
        );
      } else {
        await outgoing.flush();
        if (told !== view) await this.#tellComplete(told = view);
        if (this.#log.view === present) await this.#line.wait();
      }
    }
  }

  /** Where sending fails, what is whole before it still gets there, and the reason. */
  async #sendOne(send: () => Promise<number>): Promise<number> {
    const outgoing = this.#outgoing;
    const before = outgoing.lastTid;
    try {
      const next = await send();
      if (outgoing.lastTid !== before) {
        this.#milestones.pass(outgoing.lastTid, this.#encoder.checksum, next);
      }
      return next;
    } catch (error) {
      if (this.#line.hasEnded) throw error;
      await outgoing.flush();
      if (await this.#line.isOvertaken(error, this.#start.generation)) return await this.#sendAway();
      await this.#line.tellFailure(
        error,
        (reason) => encodeControl({ type: "bye", code: "trouble", reason }),
      );
      throw error;
    }
  }

  async #tellComplete({ lastTid, end }: LogView): Promise<void> {
    await this.#line.write(encodeControl({ type: "complete", lastTid, end }));
  }

  /** The file is another one: the secondary is to ask anew. */
  async #sendAway(): Promise<never> {
    const { packedTo } = this.#log.view;
    await this.#line.write(encodeControl({ type: "bye", code: "again", reason: CHANGED, packedTo }));
    throw new PeerLeft(CHANGED);
  }
}
