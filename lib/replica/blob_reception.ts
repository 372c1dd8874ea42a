/** Where a secondary's blobs come to, opened as its administrator chose, and what of them it serves on. */
import { BlobDirectory, MissingBlobs } from "../filestorage/mod.ts";
import type { BlobOptions, BlobReception, BlobSupply } from "./blob_use.ts";
import { IncomingBlobs } from "./incoming_blobs.ts";
import type { Ports } from "./ports.ts";

/**
 * Opens what a secondary's blobs come to.
 * @param lastTid the last transaction that is durable here
 * @throws UsageError, NotFoundError about the directory; DiskError
 */
export async function openBlobs(
  { disk }: Ports,
  { path, blobs, blobDir, missingBlobs }: BlobOptions & {
    readonly path: string;
    readonly missingBlobs?: "fail" | "mark" | undefined;
  },
  lastTid: bigint,
): Promise<BlobReception> {
  if (blobs === "refuse" || blobs === "none") return { choice: blobs };
  if (blobDir === undefined) throw new RangeError(`Blobs cannot be ${blobs} without a directory`);
  if (blobs === "shared") return { choice: blobs, directory: BlobDirectory.open(disk, blobDir) };
  const directory = await BlobDirectory.prepare(disk, blobDir);
  const missing = await MissingBlobs.open(disk, path, directory, lastTid);
  const options = { missing, marksMissing: missingBlobs === "mark" };
  return { choice: blobs, incoming: IncomingBlobs.open(directory, lastTid, options) };
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
