/** The database that the demo replicates: a sample, or a copy of the given one, which itself is only read. */
import { statfsSync } from "node:fs";
import { readMagic } from "../../lib/filestorage/mod.ts";
import { NotFoundError, UsageError } from "../../lib/errors.ts";
import type { Disk } from "../../lib/ports/mod.ts";
import { laterThan, NO_TID, tidOfTime } from "../../lib/zodb/mod.ts";
import { Application, initialCommit } from "./application.ts";
import { formatBytes } from "./format.ts";
import { SourceWriter } from "./source_writer.ts";
import { type Survey, survey } from "./survey.ts";

/** Above this size, in bytes, a copy is made only if the user agrees. */
const ASK_ABOVE_BYTES = 1024 ** 3;

/** The source and its two replicas. */
const COPIES = 3;
/** For what is committed during the demo, and for indexes. */
const MARGIN_BYTES = 64 * 1024 ** 2;

const SAMPLE_TRANSACTIONS = 3000;
/** The sample's transactions are so far apart, in milliseconds; the last one was just now. */
const SAMPLE_INTERVAL_MS = 60_000;

/** How the user is asked; undefined where there is nobody to ask. */
export type Ask = ((question: string) => boolean) | undefined;

/** Makes a sample database with some history. */
export async function makeSample(disk: Disk, path: string): Promise<void> {
  using writer = SourceWriter.create(disk, path);
  const application = new Application(1n);
  const begin = Date.now() - SAMPLE_TRANSACTIONS * SAMPLE_INTERVAL_MS;
  let tid = NO_TID;
  for (let i = 0; i < SAMPLE_TRANSACTIONS; i++) {
    const timeMs = begin + i * SAMPLE_INTERVAL_MS;
    tid = laterThan(tidOfTime(timeMs), tid);
    await writer.vote(
      i === 0 ? initialCommit(tid) : application.commit(tid, timeMs),
      () => Promise.resolve(),
    );
    await writer.finish({ sync: false });
  }
}

/**
 * Copies a database.
 * @param agreed whether the user has agreed to a large one beforehand
 * @throws UsageError, NotFoundError, DiskError; also when the user does not agree
 */
export async function copyGiven(
  disk: Disk,
  given: string,
  path: string,
  agreed: boolean,
  ask: Ask,
): Promise<void> {
  const status = disk.status(given);
  if (status === undefined) throw new NotFoundError(`Cannot copy ${given}: there is no such file`);
  {
    using file = disk.openRead(given);
    if (readMagic(file) === "FS21") {
      throw new UsageError(`Cannot replicate ${given}: it was written by Python 2`, {
        hint: "zodbupdate converts it",
      });
    }
  }
  checkSize(given, status.size, path, agreed, ask);
  await Deno.copyFile(given, path);
  await Deno.chmod(path, 0o600);
}

/** @throws CorruptError, DiskError */
export function surveyFile(disk: Disk, path: string): Survey {
  using file = disk.openRead(path);
  return survey(file);
}

function checkSize(given: string, size: number, path: string, agreed: boolean, ask: Ask): void {
  const needed = size * COPIES + MARGIN_BYTES;
  const directory = path.slice(0, path.lastIndexOf("/"));
  const { bavail, bsize } = statfsSync(directory);
  if (bavail * bsize < needed) {
    throw new UsageError(
      `Cannot copy ${given}: the demo needs ${formatBytes(needed)} in ${directory}, ` +
        `there are ${formatBytes(bavail * bsize)}`,
      { hint: "set TMPDIR to a directory with more room" },
    );
  }
  if (size <= ASK_ABOVE_BYTES || agreed) return;
  const facts = `${given} has ${formatBytes(size)}, and the demo makes ${COPIES} copies in ${directory}`;
  if (ask === undefined) throw new UsageError(`Cannot go on: ${facts}`, { hint: "agree with --yes" });
  if (!ask(`${facts}. Go on?`)) throw new UsageError("Nothing was copied");
}
