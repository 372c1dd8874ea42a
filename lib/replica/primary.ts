/**
 * `zrs primary`: follows a Data.fs that another process writes, and serves it to any number of secondaries.
 * Never writes to what it follows.
 */
import { BlobDirectory, type Change, directoryOf, FollowedFile } from "../filestorage/mod.ts";
import { ZrsError } from "../errors.ts";
import type { Address, FileLock } from "../ports/mod.ts";
import { describeTid, formatTid, NO_TID } from "../zodb/mod.ts";
import type { BlobOptions, BlobSupply } from "./blob_use.ts";
import { type BufferSizes, DEFAULT_BUFFER_SIZES } from "./buffers.ts";
import type { Secret } from "../native/mod.ts";
import type { Compress } from "./sending/pace.ts";
import type { Ports } from "./ports.ts";
import { Server } from "./sending/server.ts";
import type { NodeStatus } from "./status.ts";
import { Bell, pauser, sleep } from "./waiting.ts";

export interface PrimaryOptions extends BlobOptions {
  readonly path: string;
  readonly replicateTo: Address;
  /** A secondary that takes nothing for so long is dropped. */
  readonly peerTimeoutMs?: number;
  /** How often to look at the file when the file system tells of no change. */
  readonly lookEveryMs?: number;
  readonly buffers?: BufferSizes;
  /** So many secondaries are served at once; default: 100. */
  readonly maxSecondaries?: number;
  /** Whether content is compressed between nodes of ours; `auto` on slow links; default: `auto`. */
  readonly compress?: Compress;
  /** All secondaries together are sent no more than so many bytes a second. */
  readonly bytesPerSecond?: number | undefined;
  /** Secondaries must prove that they have it. */
  readonly secret?: Secret | undefined;
  /** Whether it is remembered, beside the file, how far secondaries are, for packing; default: no. */
  readonly remember?: boolean;
  /** Name and version of this program, for the other end's log. */
  readonly software?: string;
}

export const DEFAULT_PEER_TIMEOUT_MS = 60_000;
export const DEFAULT_SOFTWARE = "zrs";
const DEFAULT_LOOK_EVERY_MS = 1_000;
const ABSENCE_TOLD_AFTER_MS = 1_000;
const TRY_AGAIN_AFTER_MS = 1_000;

export class Primary {
  readonly #ports: Ports;
  readonly #options: PrimaryOptions;
  readonly #file: FollowedFile;
  readonly #server: Server;
  #absence: { readonly sinceMs: number; told: boolean } | undefined;
  #marked: FileLock | undefined;
  /** Why the last look at the file failed. */
  #failure: string | undefined;

  private constructor(ports: Ports, options: PrimaryOptions, file: FollowedFile, server: Server) {
    this.#ports = ports;
    this.#options = options;
    this.#file = file;
    this.#server = server;
  }

  /**
   * Opens the file and the listener.
   * @throws NotFoundError, UsageError, DiskError
   */
  static async open(ports: Ports, options: PrimaryOptions): Promise<Primary> {
    await using owned = new AsyncDisposableStack();
    const file = await FollowedFile.open(ports.disk, options.path, pauser(ports.clock));
    owned.defer(() => file.close());
    const blobs = supplyOf(ports, options);
    const server = await Server.listen(ports, options.replicateTo, file, {
      blobs,
      peerTimeoutMs: options.peerTimeoutMs ?? DEFAULT_PEER_TIMEOUT_MS,
      sendBytes: (options.buffers ?? DEFAULT_BUFFER_SIZES).sendBytes,
      chained: false,
      software: options.software ?? DEFAULT_SOFTWARE,
      compress: options.compress ?? "auto",
      bytesPerSecond: options.bytesPerSecond,
      secret: options.secret,
      rememberFor: options.remember === true ? options.path : undefined,
      ...(options.maxSecondaries !== undefined && { maxSecondaries: options.maxSecondaries }),
    });
    owned.move();
    const { lastTid } = file.view;
    const end = lastTid === NO_TID ? "which is empty so far" : `last transaction ${describeTid(lastTid)}`;
    ports.log.info(`Following ${options.path}, ${end}`);
    if (options.blobs === "none") {
      ports.log.warning(
        `Blobs are left out (--blobs none): replicas of ${options.path} have the records of blobs, not their files`,
      );
    }
    const primary = new Primary(ports, options, file, server);
    primary.#mark();
    return primary;
  }

  /** The address secondaries connect to. */
  get address(): Address {
    return this.#server.address;
  }

  /** The last transaction of the file that is on disk: what secondaries can get. */
  get lastTid(): bigint {
    return this.#file.view.lastTid;
  }

  /** Calls back after the file has changed. */
  subscribe(changed: () => void): Disposable {
    return this.#file.subscribe(changed);
  }

  status(): NodeStatus {
    const { path, blobs } = this.#options;
    const { lastTid, end } = this.#file.view;
    return {
      role: "primary",
      delay: undefined,
      path,
      lastTid,
      bytes: end,
      blobs,
      missingBlobs: undefined,
      problem: this.#failure ?? (this.#absence?.told ? `${path} is not there any more` : this.#file.problem),
      source: undefined,
      peers: this.#server.peers,
    };
  }

  /** Follows and serves until the signal aborts, or the one secondary on standard input and output has gone. */
  async run(signal: AbortSignal): Promise<void> {
    const stop = () => this.#server.close();
    signal.addEventListener("abort", stop);
    if (signal.aborted) stop();
    const served = new AbortController();
    try {
      await Promise.all([
        this.#server.run().finally(() => served.abort()),
        this.#follow(AbortSignal.any([signal, served.signal])),
      ]);
    } finally {
      signal.removeEventListener("abort", stop);
      this.#server.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    this.#file.close();
    this.#marked?.close();
    await Promise.resolve();
  }

  /** Lets a secondary on this machine notice that it would replicate a file onto itself. */
  #mark(): void {
    this.#marked?.close();
    this.#marked = undefined;
    try {
      this.#marked = this.#ports.disk.mark(this.#options.path, "followed");
    } catch (error) {
      if (!(error instanceof ZrsError)) throw error; // gone or unreadable: what follows it tells
    }
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const { clock, disk, log } = this.#ports;
    const bell = new Bell();
    const { path, lookEveryMs = DEFAULT_LOOK_EVERY_MS } = this.#options;
    const ring = () => bell.ring();
    using _watch = disk.watch(directoryOf(path), ring, path.slice(path.lastIndexOf("/") + 1));
    this.#file.onAsked = ring;
    signal.addEventListener("abort", ring);
    while (!signal.aborted) {
      try {
        for (const change of await this.#file.refresh()) this.#tell(change);
        this.#tellAbsence();
        if (this.#failure !== undefined) log.info(`${path} can be read again`);
        this.#failure = undefined;
      } catch (error) {
        // Whatever is wrong with the file, or with the way to it, was right when we began.
        if (!(error instanceof ZrsError)) throw error;
        if (this.#failure === undefined) log.error(`${error.message}; trying again every second`);
        this.#failure = error.message;
        await sleep(clock, TRY_AGAIN_AFTER_MS, signal);
        continue;
      }
      using _tick = clock.schedule(lookEveryMs, ring);
      await bell.wait();
    }
    signal.removeEventListener("abort", ring);
  }

  /** A pack renames in two steps, so a moment's absence is nothing to tell. */
  #tellAbsence(): void {
    const absence = this.#absence;
    if (absence === undefined || absence.told) return;
    if (this.#ports.clock.monotonic() - absence.sinceMs < ABSENCE_TOLD_AFTER_MS) return;
    absence.told = true;
    this.#ports.log.warning(
      `${this.#options.path} is not there any more; going on with the file that was, until it is back`,
    );
  }

  #tell(change: Change): void {
    const { log } = this.#ports;
    const { path } = this.#options;
    switch (change.kind) {
      case "grown":
        return log.debug(`${path} has grown to ${describeTid(change.lastTid)}`);
      case "replaced":
        this.#mark();
        return log.info(
          `${path} has been packed or replaced; its last transaction is ${describeTid(change.lastTid)}`,
        );
      case "rolled back":
        this.#mark(); // it may be another file
        return log.error(
          `${path} has been rolled back: it had transactions up to ${
            describeTid(change.from)
          }, of which those ` +
            `after ${describeTid(change.to)} are gone; secondaries that hold them are dropped`,
          { from: formatTid(change.from), to: formatTid(change.to) },
        );
      case "absent":
        this.#absence = { sinceMs: this.#ports.clock.monotonic(), told: false };
        return;
      case "back":
        if (this.#absence?.told) log.info(`${path} is back`);
        this.#absence = undefined;
        return;
      case "unreadable":
        return log.error(`${path} cannot be followed further: ${change.problem}`);
    }
  }
}

/** @throws UsageError about the directory */
function supplyOf({ disk }: Ports, { blobs, blobDir }: PrimaryOptions): BlobSupply {
  if (blobs === "refuse" || blobs === "none") return blobs;
  if (blobDir === undefined) throw new RangeError(`Blobs cannot be ${blobs} without a directory`);
  return BlobDirectory.open(disk, blobDir);
}
