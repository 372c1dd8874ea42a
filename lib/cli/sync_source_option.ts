/** SOURCE of `zrs replica-sync`: what it names, and how that is reached. */

import { UsageError } from "../errors.ts";
import type { Disk } from "../ports/mod.ts";
import { networkSource, openFileSource, type Ports, type SyncSource } from "../replica/mod.ts";
import { isSourceUrl, parseSourceUrl } from "./source_url.ts";
import type { Blobs } from "./values.ts";
import { SOFTWARE } from "./version.ts";

export type SourceName =
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "node"; readonly url: string }
  | { readonly kind: "ssh"; readonly text: string };

/**
 * What a text names: `zrs:` and `zrs+unix:` a node; `ssh:`, or anything with a colon before the first slash, a file
 * of another machine, as for scp; the rest a file of this one.
 */
export function readSourceName(text: string): SourceName {
  if (isSourceUrl(text)) return { kind: "node", url: text };
  if (text === "-" || /^[^/]*:/.test(text)) return { kind: "ssh", text };
  return { kind: "file", path: text };
}

/**
 * Gets ready to copy from a source; a node is not connected to yet.
 * @throws UsageError, NotFoundError, DiskError
 */
export async function openSource(
  text: string,
  ports: Ports,
  options: { readonly dataFs: string; readonly blobs: Blobs },
): Promise<SyncSource> {
  const name = readSourceName(text);
  switch (name.kind) {
    case "node":
      return networkSource(ports, parseSourceUrl(name.url));
    case "ssh":
      throw new UsageError(
        `Cannot copy from ${text}: this version knows files of this machine and zrs://host:port`,
        {
          hint: "A file of this machine with a colon in its name is ./NAME",
        },
      );
    case "file": {
      refuseSameFile(ports.disk, name.path, options.dataFs);
      return await openFileSource(ports, { path: name.path, blobs: options.blobs, software: SOFTWARE });
    }
  }
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
