/** SOURCE of `zrs replica-sync`: what it names, and how that is reached. */

import { UsageError } from "../../errors.ts";
import type { Host } from "../../host/mod.ts";
import type { Disk } from "../../ports/mod.ts";
import {
  type BlobOptions,
  type FarPlace,
  FarSource,
  limitedSource,
  networkSource,
  openFileSource,
  type Ports,
  stdioSource,
  type SyncSource,
  Throttle,
} from "../../replica/mod.ts";
import { blobOptions, type BlobsCommand } from "../options.ts";
import { formatSourceUrl, isSourceUrl, parseSourceUrl } from "./source_url.ts";
import { farPlaceOf, mayAsk } from "./ssh_place.ts";
import { parseSshTarget } from "./ssh_source.ts";
import { SOFTWARE } from "../version.ts";

export type SourceName =
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "node"; readonly url: string }
  | { readonly kind: "ssh"; readonly text: string }
  /** Whoever has started this program. */
  | { readonly kind: "stdio" };

/** What is said about the way to a source. */
export interface SourceOptions extends BlobsCommand {
  readonly dataFs: string;
  /** The blob directory of a source that is a file. */
  readonly sourceBlobDir?: string | undefined;
  readonly protocol: "auto" | "native" | "zrs2";
  /** The command that leads to another machine. */
  readonly ssh: string;
  /** The name or path of zrs there. */
  readonly farZrs?: string | undefined;
  /** In bytes a second. */
  readonly bwlimit?: number | undefined;
}

/**
 * What a text names: `zrs:` and `zrs+unix:` a node; `ssh:`, or anything with a colon before the first slash, a file
 * of another machine, as for scp; `-` whoever holds our standard input and output; the rest a file of this one.
 */
export function readSourceName(text: string): SourceName {
  if (text === "-") return { kind: "stdio" };
  if (isSourceUrl(text)) return { kind: "node", url: text };
  if (/^[^/]+:/.test(text)) return { kind: "ssh", text };
  return { kind: "file", path: text };
}

/**
 * Gets ready to copy from a source; no other machine is connected to yet.
 * @throws UsageError, NotFoundError, DiskError
 */
export async function openSource(
  text: string,
  ports: Ports,
  options: SourceOptions,
  host: Host,
): Promise<SyncSource | FarSource> {
  const { bwlimit } = options;
  const limited = (source: SyncSource) =>
    bwlimit === undefined ? source : limitedSource(ports, source, bwlimit);
  const name = readSourceName(text);
  switch (name.kind) {
    case "node": {
      const address = parseSourceUrl(name.url);
      return limited(networkSource(ports, address, formatSourceUrl(address)));
    }
    case "stdio":
      return limited(stdioSource(ports));
    case "ssh":
      return new FarSource({ ...host, log: ports.log }, readFarPlace(text, options.ssh, host), {
        // Whoever has named it does not expect that something else is done where the name is wrong.
        by: options.protocol === "native" || options.farZrs !== undefined ? "zrs" : "auto",
        ...sourceBlobs(text, options),
        mayAsk: mayAsk(host),
        ...(options.farZrs !== undefined && { zrs: options.farZrs }),
        ...(bwlimit !== undefined && { throttle: new Throttle(ports.clock, bwlimit) }),
      });
    case "file": {
      const { path } = name;
      const blobs = sourceBlobs(text, options);
      refuseSameFile(ports.disk, path, options.dataFs);
      refuseSameBlobs(ports.disk, blobs, options);
      return limited(await openFileSource(ports, { path, ...blobs, software: SOFTWARE }));
    }
  }
}

/**
 * What the source's end is told of blobs.
 * @returns what was said of the copy's, with the source's own directory
 * @throws UsageError where the options contradict each other, or the directory is not named
 */
export function sourceBlobs(text: string, options: Omit<SourceOptions, "dataFs">): BlobOptions {
  const { blobs, blobDir } = blobOptions(options);
  const { sourceBlobDir } = options;
  const { kind } = readSourceName(text);
  if (kind === "node" || kind === "stdio") {
    if (sourceBlobDir === undefined) return { blobs };
    throw new UsageError(`Cannot use --source-blob-dir to copy ${text}: a running node knows its own`, {
      hint: "leave it out",
    });
  }
  if (blobs === "refuse" || blobs === "none") {
    if (sourceBlobDir === undefined) return { blobs };
    throw new UsageError("Cannot use --source-blob-dir without --blob-dir: no blobs are copied then", {
      hint: "name the directory for the copy's blobs as --blob-dir",
    });
  }
  if (sourceBlobDir !== undefined) return { blobs, blobDir: sourceBlobDir };
  if (blobs === "shared" && kind === "file") return { blobs, blobDir };
  throw new UsageError(`Cannot copy the blobs of ${text}: which directory they are in is not said`, {
    hint: "name it as --source-blob-dir, or give --blobs none in place of --blob-dir",
  });
}

/**
 * A place on another machine, as it is written on the command line.
 * @param ssh the command that leads there
 * @throws UsageError where the text is none
 */
export function readFarPlace(text: string, ssh: string, host: Pick<Host, "isTerminal">): FarPlace {
  const target = parseSshTarget(text);
  if (target !== undefined) return farPlaceOf(target, ssh, host);
  throw new UsageError(`Cannot read ${text}: it names no file of another machine`, {
    hint: "write [user@]host:path, or ssh://[user@]host[:port]/path; a local path with a colon as ./path",
  });
}

/** The path of the source, where it is a file of this machine. */
export function pathOfSource(text: string): string | undefined {
  const name = readSourceName(text);
  return name.kind === "file" ? name.path : undefined;
}

/** @throws UsageError where both names lead to one file, also through links */
function refuseSameFile(disk: Disk, source: string, dataFs: string): void {
  const identity = disk.status(source)?.identity;
  if (identity === undefined || identity !== disk.status(dataFs)?.identity) return;
  throw new UsageError(`Cannot copy ${source} to ${dataFs}: both are the same file`, {
    path: dataFs,
    hint: "name another file for the copy",
  });
}

/** @throws UsageError where source and copy would have one blob directory, as only sharing it makes sense */
function refuseSameBlobs(disk: Disk, source: BlobOptions, { blobDir }: BlobsCommand): void {
  if (source.blobs !== "replicate" || source.blobDir === undefined || blobDir === undefined) return;
  const identity = disk.status(source.blobDir)?.identity;
  if (identity === undefined || identity !== disk.status(blobDir)?.identity) return;
  throw new UsageError(
    `Cannot copy blobs from ${source.blobDir} to ${blobDir}: both are the same directory`,
    {
      path: blobDir,
      hint: "name another directory for the copy, or give --blobs shared",
    },
  );
}
