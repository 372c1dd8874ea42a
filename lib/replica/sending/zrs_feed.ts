/**
 * One secondary attached to a log by zrs2: greeting, comparing the histories by tids, then every transaction behind
 * its last one, oldest first, for as long as it stays. Holds two buffers and a window, however far behind or slow
 * the secondary is.
 */
import { type Generation, type LogView, type TransactionLog, walkingReader } from "../../filestorage/mod.ts";
import { DivergedError, UnavailableError, ZrsError } from "../../errors.ts";
import type { WantedBlobs } from "../../native/mod.ts";
import { describeTid, formatTid } from "../../zodb/mod.ts";
import { encodeRefusal, GreetingDecoder, StreamEncoder } from "../../zrs/mod.ts";
import { compareHistories, refusalReason } from "../lineage/histories.ts";
import { WITHOUT_BLOBS } from "../blob_use.ts";
import { Outgoing } from "./outgoing.ts";
import { OutgoingBlobs } from "./outgoing_blobs.ts";
import type { Ports } from "../ports.ts";
import { type FeedOptions, type Line, type Progress, type Service, type Shared } from "./service.ts";
import { compareUntilSettled } from "./verdict.ts";
import { sleep } from "../waiting.ts";

export class ZrsFeed implements Service {
  readonly farewell = undefined;
  #progress: (() => Progress) | undefined;
  readonly #ports: Ports;
  readonly #log: TransactionLog;
  readonly #line: Line;
  readonly #options: FeedOptions;
  readonly #shared: Shared;
  readonly #greeting = new GreetingDecoder();

  constructor(ports: Ports, log: TransactionLog, line: Line, options: FeedOptions, shared: Shared) {
    this.#ports = ports;
    this.#log = log;
    this.#line = line;
    this.#options = options;
    this.#shared = shared;
  }

  get protocol(): string {
    return this.#greeting.greeting?.version ?? "zrs2";
  }

  get progress(): Progress | undefined {
    return this.#progress?.();
  }

  complaint(): undefined {}

  push(chunk: Uint8Array, from: number, to: number): void {
    this.#greeting.push(chunk, from, to);
  }

  async greeted(): Promise<void> {
    while (this.#greeting.greeting === undefined) await this.#line.wait();
  }

  async serve(): Promise<void> {
    const { log } = this.#ports;
    const { peer } = this.#line;
    const start = this.#greeting.greeting!;
    if (this.#options.secret !== undefined) {
      await this.#refuse("this source demands a secret, and zrs2 knows none: use zrs and --auth-file");
    }
    await this.#checkBlobs();
    using place = this.#shared.admit();
    if (place === undefined) {
      await this.#refuse("this source serves as many secondaries already as it may");
    }
    const nothing = { receivedTid: undefined, durableTid: undefined };
    const asGreeted = { sentTid: start.startTid, position: undefined, generation: undefined, ...nothing };
    this.#progress = () => asGreeted;
    using _changes = this.#log.subscribe(() => this.#line.ring());
    const beginning = await this.#compare(start.startTid);
    let { position } = beginning;
    let generation: Generation | undefined = beginning.generation;
    try {
      log.info(`${peer}: connected with ${start.version}, has ${describeTid(start.startTid)}`, {
        peer,
        tid: formatTid(start.startTid),
      });
      const outgoing = new Outgoing(beginning.generation, start.startTid, new StreamEncoder(start.startTid), {
        blobs: this.#blobs(),
        bufferBytes: this.#options.sendBytes,
        write: (bytes) => this.#line.write(bytes),
        log,
        pause: () => this.#pause(),
      });
      this.#progress = () => ({ sentTid: outgoing.lastTid, position, generation, ...nothing });
      for (;;) {
        const view = this.#log.view;
        if (view.generation !== generation) {
          await outgoing.flush();
          generation?.release();
          generation = undefined;
          const next = await this.#compare(outgoing.lastTid);
          ({ position, generation } = next);
          outgoing.switchTo(next.generation);
        } else if (position < view.end) {
          this.#line.check();
          position = await this.#send(outgoing, position, view);
        } else {
          await outgoing.flush();
          if (this.#log.view === view) await this.#line.wait();
        }
      }
    } finally {
      generation?.release();
    }
  }

  /**
   * Sends one transaction. Where that fails, what is whole before it still gets there, and the reason.
   * @throws CorruptError, DiskError, UnavailableError
   */
  async #send(outgoing: Outgoing, position: number, { end, generation }: LogView): Promise<number> {
    try {
      return await outgoing.send(position, end);
    } catch (error) {
      if (!(error instanceof ZrsError) || this.#line.hasEnded) throw error;
      const isBetween = await outgoing.giveUp();
      // Who is refused waits long before it asks again, which it should do at once where the file is another one.
      if (await this.#line.isOvertaken(error, generation)) throw error;
      if (isBetween) await this.#line.tellFailure(error, encodeRefusal);
      throw error;
    }
  }

  /**
   * The position behind the secondary's last transaction in the log's present file, which is held for the
   * caller.
   * @throws DivergedError after telling the peer
   */
  async #compare(tid: bigint): Promise<{ position: number; generation: Generation }> {
    const { found, view } = await compareUntilSettled(
      tid,
      { ports: this.#ports, log: this.#log, line: this.#line, chained: this.#options.chained },
      (present) => {
        const reader = walkingReader(present.generation.file, present.end);
        return compareHistories(reader, present, tid, () => this.#pause());
      },
    );
    const { generation } = view;
    if (found.kind === "shared" || found.kind === "beyond the pack") {
      if (found.kind === "beyond the pack") this.#noteBeyondPack(tid, view);
      return { position: found.position, generation };
    }
    generation.release();
    const reason = refusalReason(found, tid, view.lastTid);
    await this.#line.write(encodeRefusal(reason));
    throw new DivergedError(reason, { tid });
  }

  #blobs(): OutgoingBlobs {
    return new OutgoingBlobs({
      supply: this.#options.blobs,
      wanted: this.#wantedBlobs,
      log: this.#ports.log,
      pause: () => this.#pause(),
    });
  }

  get #wantedBlobs(): WantedBlobs {
    return this.#greeting.greeting!.version === "zrs2.1" ? "content" : "nothing";
  }

  /** As a primary of zc.zrs, but in words. */
  async #checkBlobs(): Promise<void> {
    const { blobs } = this.#options;
    if (blobs === "none" && this.#wantedBlobs === "content") await this.#refuse(WITHOUT_BLOBS);
    if (typeof blobs !== "string" && this.#wantedBlobs === "nothing") {
      await this.#refuse(
        "this source has blobs, which zrs2.0 cannot carry: give the secondary a blob directory",
      );
    }
  }

  /** Lets others work during a long walk, which ends when the connection does. */
  async #pause(): Promise<void> {
    await sleep(this.#ports.clock, 0);
    this.#line.check();
  }

  async #refuse(reason: string): Promise<never> {
    await this.#line.write(encodeRefusal(reason));
    throw new UnavailableError(`Cannot serve ${this.#line.peer}: ${reason}`);
  }

  #noteBeyondPack(tid: bigint, view: LogView): void {
    this.#shared.repeated.tell(
      "warning",
      this.#line.peer,
      `beyond the pack: its last transaction is ${describeTid(tid)}, which is not ` +
        `here any more or never was; tids alone cannot tell. It gets what is later, up to ` +
        describeTid(view.lastTid),
      { tid: formatTid(tid), lastTid: formatTid(view.lastTid) },
    );
  }
}
