/** The digest of a blob's content, by which two ends tell that they have the same. */
import { DiskError, NotFoundError, UsageError } from "../../errors.ts";
import type { BlobDirectory, BlobKey } from "./blob_directory.ts";
import { GrowingDigest } from "../compare/growing_digest.ts";

/** What an end has of a blob: its length in bytes and SHA-256 in hexadecimal digits, or why not. */
export type FoundBlob = { readonly bytes: number; readonly digest: string } | "missing" | "unreadable";

/**
 * Reads a blob through.
 * @param pause lets other work run, now and then. @throws to end it
 */
export async function digestBlob(
  directory: BlobDirectory,
  key: BlobKey,
  pause: () => Promise<void>,
): Promise<FoundBlob> {
  try {
    using file = directory.disk.openRead(directory.pathOf(key));
    const bytes = file.size();
    const digest = await new GrowingDigest(file, 0).upTo(bytes, pause);
    return digest === undefined ? "unreadable" : { bytes, digest };
  } catch (error) {
    if (error instanceof NotFoundError) return "missing";
    if (error instanceof UsageError || error instanceof DiskError) return "unreadable";
    throw error;
  }
}
