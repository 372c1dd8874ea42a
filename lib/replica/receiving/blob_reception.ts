/** Where a secondary's blobs come to, opened as its administrator chose, and what of them it serves on. */
import { ZrsError } from "../../errors.ts";
import {
  BlobDirectory,
  type ByteSource,
  MissingBlobs,
  type ObjectIndex,
  RevisionFinder,
} from "../../filestorage/mod.ts";
import type { Log } from "../../ports/mod.ts";
import type { BlobOptions, BlobReception, BlobSupply } from "../blob_use.ts";
import { IncomingBlobs } from "./incoming_blobs.ts";
import type { PackRequest } from "../live_pack.ts";
import type { Ports } from "../ports.ts";
import { END_OF_TIME } from "../sync/until.ts";

/** As {@link BlobOptions}, and what becomes of those for which the source has no file; default: fail. */
export interface BlobReceptionOptions extends BlobOptions {
  readonly missingBlobs?: "fail" | "mark" | undefined;
}

/**
 * Opens what a replica's blobs come to.
 * @param lastTid the last transaction that is durable here: what earlier runs left of blobs, and cannot be used any
 * more, is forgotten; undefined where a new copy may use it
 * @throws UsageError, NotFoundError about the directory; DiskError
 */
export async function openBlobs(
  { disk }: Ports,
  { path, blobs, blobDir, missingBlobs }: BlobReceptionOptions & { readonly path: string },
  lastTid: bigint | undefined,
): Promise<BlobReception> {
  if (blobs === "refuse" || blobs === "none") return { choice: blobs };
  if (blobDir === undefined) throw new RangeError(`Blobs cannot be ${blobs} without a directory`);
  if (blobs === "shared") return { choice: blobs, directory: BlobDirectory.open(disk, blobDir) };
  const directory = await BlobDirectory.prepare(disk, blobDir);
  const missing = await MissingBlobs.open(disk, path, directory, lastTid);
  const options = { missing, marksMissing: missingBlobs === "mark" };
  return { choice: blobs, incoming: IncomingBlobs.open(directory, lastTid, options) };
}

/** What a pack takes away with the records that it drops: only what is this replica's own. */
export function packedWith(blobs: BlobReception): Pick<PackRequest, "blobs" | "missing"> {
  if (blobs.choice !== "replicate") return {};
  return { blobs: blobs.incoming.directory, missing: blobs.incoming.missing };
}

/** The replica has been rewound, and may grow again with other transactions: nothing later is missing any more. */
export async function forgetMissing(log: Log, blobs: BlobReception, lastTid: bigint): Promise<void> {
  if (blobs.choice !== "replicate") return;
  try {
    await blobs.incoming.missing.retain(({ tid }) => tid <= lastTid);
  } catch (error) {
    if (!(error instanceof ZrsError)) throw error;
    log.warning(`${error.message}; ${blobs.incoming.missing.path} names blobs that have been rewound`);
  }
}

/**
 * A replica has all that it was to have: nothing is kept of blobs that were on their way, and only those are told as
 * missing that a record refers to.
 * @throws DiskError, CorruptError
 */
export async function tidyBlobs(
  blobs: BlobReception,
  file: ByteSource,
  index: ObjectIndex,
  end: number,
): Promise<void> {
  if (blobs.choice !== "replicate") return;
  const { incoming } = blobs;
  incoming.forget(END_OF_TIME);
  const finder = new RevisionFinder(file, index);
  await incoming.missing.retain(({ oid, tid }) =>
    finder.find(Number(oid >> 32n), Number(oid & 0xffff_ffffn), tid, end) !== 0
  );
}

/** What this node can serve of what it receives. */
export function supplyOf(blobs: BlobReception): BlobSupply {
  switch (blobs.choice) {
    case "shared":
      return blobs.directory;
    case "replicate":
      return blobs.incoming.directory;
    default:
      return blobs.choice;
  }
}
