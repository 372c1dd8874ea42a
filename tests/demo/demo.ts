/**
 * The plot: a source that is written all the time, a primary that follows it, a secondary, and a second
 * secondary chained to the first; the one in the middle is killed and comes back; at the end all have the same.
 */
import { join } from "node:path";
import type { Disk } from "../../lib/ports/mod.ts";
import { describeTid, laterThan, tidOfTime } from "../../lib/zodb/mod.ts";
import { Application, importCommit } from "./application.ts";
import { differenceInHistory, firstDifference } from "./compare.ts";
import { formatBytes, formatCount } from "./format.ts";
import { Gauge } from "./gauge.ts";
import { ServerProcess } from "./nodes.ts";
import type { Row, Screen } from "./screen.ts";
import { SourceWriter } from "./source_writer.ts";
import type { Survey } from "./survey.ts";

/** How long each act lasts, in milliseconds; catching up takes what it takes. */
export const ACTS = { together: 3000, apart: 3000, togetherAgain: 3000 };

/** The transaction in the middle of which the secondary is killed, in megabytes: more than it keeps in memory. */
const IMPORT_MEGABYTES = 48;
const HALF_WAY_BYTES = IMPORT_MEGABYTES / 2 * 1024 ** 2;
/** Its oids, counted from the greatest that the source had: beyond those of all small commits. */
const IMPORT_OIDS = 1_000_000n;
/** Between two commits, and between looks at the files. */
const COMMIT_PAUSE_MS = 8;
const LOOK_EVERY_MS = 50;
/** To catch the secondary in the middle of a transaction. */
const LOOK_CLOSELY_EVERY_MS = 1;
/** Catching up that takes longer has failed. A replica of a large file takes a while to be filled. */
const CATCH_UP_MS = 60_000;
const CATCH_UP_MS_PER_MB = 200;
/** One transaction in so many is taken back after the vote. */
const ABORT_ONE_IN = 15;

export interface Stage {
  readonly disk: Disk;
  readonly screen: Screen;
  /** Where everything lies. */
  readonly directory: string;
  /** The database to replicate; from now on the demo's to write to. */
  readonly source: string;
  readonly survey: Survey;
  readonly acts: Readonly<typeof ACTS>;
  /** Ends the demo; its reason is thrown. */
  readonly signal: AbortSignal;
}

/** What the files showed at the end. */
export interface Outcome {
  readonly transactions: number;
  readonly bytes: number;
  /** For each replica that is not the same byte for byte: where it first differs. Its transactions are the same. */
  readonly bytesDiffer: ReadonlyMap<string, number>;
}

/** @throws Error when a server fails, does not catch up in time, or a replica is not the same at the end */
export async function perform(stage: Stage): Promise<Outcome> {
  await using play = new Play(stage);
  await play.begin();
  await play.killAndRestart();
  await play.end();
  return play.compare();
}

class Play implements AsyncDisposable {
  readonly #stage: Stage;
  readonly #resources = new AsyncDisposableStack();
  /** Aborted by the stage's signal, and by whatever fails on its own. */
  readonly #failing = new AbortController();
  readonly #signal: AbortSignal;
  readonly #paths: Readonly<Record<"source" | "secondary" | "chained", string>>;
  readonly #gauges: Readonly<Record<"source" | "secondary" | "chained", Gauge>>;
  readonly #primary: ServerProcess;
  #secondary: ServerProcess | undefined;
  #chained: ServerProcess | undefined;
  readonly #stopWriting = new AbortController();
  #writing: Promise<void> | undefined;
  #aborted = 0;
  /** What the writer does next; then it goes on with small commits. */
  #next: "small" | "import" | "imported" = "small";

  constructor(stage: Stage) {
    this.#stage = stage;
    this.#signal = AbortSignal.any([stage.signal, this.#failing.signal]);
    const { disk, directory, source } = stage;
    this.#paths = {
      source,
      secondary: join(directory, "secondary.fs"),
      chained: join(directory, "chained.fs"),
    };
    this.#gauges = {
      source: this.#resources.use(new Gauge(disk, this.#paths.source)),
      secondary: this.#resources.use(new Gauge(disk, this.#paths.secondary)),
      chained: this.#resources.use(new Gauge(disk, this.#paths.chained)),
    };
    this.#primary = this.#server("primary", [this.#paths.source, "--replicate-to", "0"]);
  }

  /** Starts everything, and waits until the replicas have all that was there before. */
  async begin(): Promise<void> {
    const { screen, directory } = this.#stage;
    const address = await this.#primary.start();
    screen.event(`The primary (process ${this.#primary.pid}) follows the source, read-only, on ${address}`);
    // A socket with a name, so that the chained secondary finds the restarted one again.
    const socket = join(directory, "secondary.sock");
    this.#secondary = this.#server("secondary", [
      ...[this.#paths.secondary, "--replicate-from", address!, "--replicate-to", socket, "--retry-max", "1"],
    ]);
    await this.#secondary.start();
    screen.event(`The secondary (process ${this.#secondary.pid}) begins empty, and listens for others`);
    this.#chained = this.#server("chained", [
      ...[this.#paths.chained, "--replicate-from", socket, "--retry-max", "1"],
    ]);
    await this.#chained.start();
    screen.event(
      `The chained secondary (process ${this.#chained.pid}) begins empty, and gets all from the first`,
    );
    await this.#caughtUp();
    screen.event("Both replicas have all that the source had");
    this.#writing = this.#write();
    screen.event(
      "The source is committed to, as ZODB does it: vote, finish, sync; now and then abort or undo",
    );
    await this.#play(this.#stage.acts.together);
  }

  async killAndRestart(): Promise<void> {
    const { screen } = this.#stage;
    const secondary = this.#secondary!;
    const { pid } = secondary;
    await this.#untilHalfWay();
    await secondary.kill();
    this.#look();
    const { lastTid, transactions, unfinishedBytes } = this.#gauges.secondary;
    screen.event(`KILL: the secondary (process ${pid}) got SIGKILL. It has up to ${describeTid(lastTid)}`);
    if (unfinishedBytes > 0) {
      screen.event(
        `and behind that ${formatBytes(unfinishedBytes)} of a transaction that had not come whole`,
      );
    }
    await this.#play(this.#stage.acts.apart);
    const missed = this.#gauges.source.transactions - transactions;
    await secondary.start();
    screen.event(`The secondary is back (process ${secondary.pid}), ${formatCount(missed)} commits behind`);
    const repaired = secondary.said.find((line) => line.includes(": cut "));
    if (repaired !== undefined) screen.event(`It says: ${repaired.slice(repaired.indexOf(": cut ") + 2)}`);
    await this.#until("the secondary to catch up", () => this.#behind("secondary") <= 1);
    screen.event("It has caught up, while the source went on");
    await this.#play(this.#stage.acts.togetherAgain);
  }

  async end(): Promise<void> {
    const { screen } = this.#stage;
    this.#stopWriting.abort();
    await this.#writing;
    const { source } = this.#gauges;
    source.look();
    const written = source.transactions - this.#stage.survey.transactions;
    screen.event(
      `The source rests: ${
        formatCount(written)
      } commits were made, ${this.#aborted} taken back after the vote`,
    );
    await this.#caughtUp();
    screen.event("Both replicas have caught up");
    for (const server of [this.#chained!, this.#secondary!, this.#primary]) await server.stop();
    screen.event("All three servers were told to stop, and ended with exit code 0");
  }

  /** @throws Error when a replica is not the same */
  compare(): Outcome {
    const { disk, survey } = this.#stage;
    const { source } = this.#gauges;
    using ours = disk.openRead(this.#paths.source);
    const bytesDiffer = new Map<string, number>();
    for (const name of ["secondary", "chained"] as const) {
      using copy = disk.openRead(this.#paths[name]);
      const position = firstDifference(ours, copy);
      if (position === undefined) continue;
      const difference = differenceInHistory(ours, copy);
      if (difference !== undefined) throw new Error(`The ${name} is not the same: ${difference}`);
      // Only what a pack has written anew may lie elsewhere in a replica.
      if (!survey.rewritten) {
        throw new Error(`The ${name} differs at byte ${position}, though not in what it says`);
      }
      bytesDiffer.set(name, position);
    }
    return { transactions: source.transactions, bytes: source.bytes, bytesDiffer };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopWriting.abort();
    // A failure of the writer has ended the play already.
    await this.#writing?.catch(() => {});
    await this.#resources.disposeAsync();
  }

  #server(name: string, args: readonly string[]): ServerProcess {
    const command = name === "primary" ? "primary" : "secondary";
    const blobs = this.#stage.survey.blobRecords > 0 ? ["--blobs", "none"] : [];
    const readyFile = join(this.#stage.directory, `${name}.ready`);
    const failed = (error: Error) => this.#failing.abort(error);
    return this.#resources.use(new ServerProcess(name, [command, ...args, ...blobs], readyFile, failed));
  }

  /** Commits until told to stop. */
  async #write(): Promise<void> {
    const { disk, source, survey } = this.#stage;
    try {
      using writer = SourceWriter.open(disk, source, survey.end);
      const application = new Application(survey.greatestOid + 1n);
      let tid = survey.lastTid;
      for (let count = 1; !this.#stopWriting.signal.aborted; count++) {
        const now = Date.now();
        tid = laterThan(tidOfTime(now), tid);
        const importing = this.#next === "import";
        const commit = importing
          ? importCommit(tid, survey.greatestOid + IMPORT_OIDS, IMPORT_MEGABYTES)
          : application.commit(tid, now);
        await writer.vote(commit, () => pause(0));
        if (importing) {
          await writer.finish();
          this.#next = "imported";
        } else if (count % ABORT_ONE_IN === 0) {
          await pause(0);
          writer.abort();
          this.#aborted++;
        } else {
          await writer.finish();
        }
        await pause(COMMIT_PAUSE_MS);
      }
    } catch (error) {
      this.#failing.abort(error);
    }
  }

  async #caughtUp(): Promise<void> {
    const { source, secondary, chained } = this.#gauges;
    await this.#until(
      "the replicas to catch up",
      () => secondary.lastTid === source.lastTid && chained.lastTid === source.lastTid,
    );
  }

  /** Waits for the secondary to be in the middle of a large transaction; if it is too quick for us, to have it. */
  async #untilHalfWay(): Promise<void> {
    const { source, secondary } = this.#gauges;
    this.#next = "import";
    await this.#until("the source to import", () => this.#next === "imported", LOOK_CLOSELY_EVERY_MS);
    const { lastTid } = source;
    await this.#until(
      "the secondary to be in the middle of the import",
      () => secondary.unfinishedBytes >= HALF_WAY_BYTES || secondary.lastTid >= lastTid,
      LOOK_CLOSELY_EVERY_MS,
    );
  }

  /** Lets time pass. */
  async #play(durationMs: number): Promise<void> {
    const end = performance.now() + durationMs;
    await this.#until("time to pass", () => performance.now() >= end);
  }

  /** Looks and shows until the condition holds. @throws Error when that takes too long, or something has failed */
  async #until(what: string, holds: () => boolean, everyMs = LOOK_EVERY_MS): Promise<void> {
    const limitMs = CATCH_UP_MS + this.#stage.survey.end / 1024 ** 2 * CATCH_UP_MS_PER_MB;
    const deadline = performance.now() + limitMs;
    for (;;) {
      this.#signal.throwIfAborted();
      this.#look();
      if (holds()) return;
      if (performance.now() > deadline) throw new Error(`Waited ${Math.round(limitMs / 1000)} s for ${what}`);
      await pause(everyMs);
    }
  }

  #look(): void {
    const { source, secondary, chained } = this.#gauges;
    // The source last, so that no replica seems to be ahead of it.
    chained.look();
    secondary.look();
    source.look();
    this.#stage.screen.progress([
      row("source", this.#writing === undefined ? "at rest" : "being written", source),
      { ...row("secondary", stateOf(this.#secondary), secondary), behind: this.#behind("secondary") },
      { ...row("chained", stateOf(this.#chained), chained), behind: this.#behind("chained") },
    ]);
  }

  #behind(name: "secondary" | "chained"): number {
    return this.#gauges.source.transactions - this.#gauges[name].transactions;
  }
}

function row(name: string, state: string, { lastTid, transactions, bytes }: Gauge): Row {
  return { name, state, lastTid, transactions, bytes };
}

function stateOf(server: ServerProcess | undefined): string {
  return server?.pid === undefined ? "not running" : `running, ${server.pid}`;
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** What the outcome proves, in words. */
export function conclude(outcome: Outcome, blobRecords: number): string[] {
  const size = `${formatCount(outcome.transactions)} transactions, ${formatBytes(outcome.bytes)}`;
  const lines: string[] = [];
  if (outcome.bytesDiffer.size === 0) {
    lines.push(`The source and both replicas are identical, byte for byte: ${size}.`);
  } else {
    lines.push(`The source and both replicas are the same, transaction by transaction: ${size}.`);
    for (const [name, position] of outcome.bytesDiffer) {
      lines.push(
        `(The source had been packed, so the ${name} is laid out differently from byte ${position} on.)`,
      );
    }
  }
  lines.push(
    "So: a primary can follow a database that another process writes; a replica, and a replica of that,",
    "are filled from nothing while it goes on; and one that is killed in the middle of it loses nothing",
    "that was whole, and goes on where it was.",
  );
  if (blobRecords > 0) {
    lines.push(
      `NOT replicated: the content of blobs, of which there are ${formatCount(blobRecords)} revisions.`,
    );
  }
  return lines;
}
