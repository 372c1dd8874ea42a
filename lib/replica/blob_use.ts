/** What a node does about blobs, as its administrator chose, and how it says no. */
import { UnavailableError } from "../errors.ts";
import type { BlobDirectory, BlobKey } from "../filestorage/mod.ts";
import { describeTid, formatOid } from "../zodb/mod.ts";
import type { IncomingBlobs } from "./receiving/incoming_blobs.ts";

/**
 * - `refuse`: the first blob ends the stream
 * - `none`: records are replicated, the blobs' files are not
 * - `replicate`: records and files
 * - `shared`: both ends see the same files: they are looked for, and not copied
 */
export type BlobChoice = "refuse" | "none" | "replicate" | "shared";

export interface BlobOptions {
  readonly blobs: BlobChoice;
  /** The blob directory: needed to replicate blobs, or to share them. */
  readonly blobDir?: string | undefined;
}

/** What a source has of its blobs: their files, or not, or whatever it is it may not send them. */
export type BlobSupply = "refuse" | "none" | BlobDirectory;

/** What becomes of the blobs that a replica receives. */
export type BlobReception =
  | { readonly choice: "refuse" | "none" }
  | { readonly choice: "shared"; readonly directory: BlobDirectory }
  | { readonly choice: "replicate"; readonly incoming: IncomingBlobs };

/** Where the contents of blobs go to, if they are taken. */
export function contentsOf(blobs: BlobReception): IncomingBlobs | undefined {
  return blobs.choice === "replicate" ? blobs.incoming : undefined;
}

/** What either end says of a blob that it does not send or take. */
export const IS_BLOB = "it is a blob";

/** Whether a stream has ended at a blob. A source's reason comes as words, and by zrs2 as nothing else. */
export function endsAtBlob({ message }: Error): boolean {
  return message.includes(IS_BLOB);
}

/** A blob's record without its file: sent, it would leave a hole in the replica. */
export class MissingBlobError extends UnavailableError {
  /** The words for the other end, which paths of this machine do not concern. */
  readonly told: string;

  /** @param options.name the path within the blob directory */
  constructor(
    words: string,
    path: string,
    key: BlobKey,
    { name, ...options }: { cause?: unknown; hint: string; name?: string },
  ) {
    super(`${words} (${path})`, { path, ...key, ...options });
    this.told = name === undefined ? words : `${words} (${name} in its blob directory)`;
  }
}

/** Why a source whose replicas get no blobs refuses a secondary that wants some. */
export const WITHOUT_BLOBS = "this source has the records of blobs and not their files (--blobs none): " +
  "a secondary that takes no blobs either is started with --blobs none";

/** "object … of transaction …", as failures name a blob. */
export function describeBlob({ oid, tid }: BlobKey): string {
  return `object ${formatOid(oid)} of transaction ${describeTid(tid)}`;
}
