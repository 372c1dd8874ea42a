/** The files of a blob directory, read naively, for comparing two. */
import assert from "node:assert/strict";
import { walk } from "./walk.ts";

export interface BlobFile {
  readonly size: number;
  readonly mode: number;
  readonly sha256: string;
}

/** The blobs of a directory in either layout, by oid and tid as `0x…/0x….blob`. */
export async function blobFilesOf(directory: string): Promise<Map<string, BlobFile>> {
  const files = new Map<string, BlobFile>();
  for (const path of await walk(directory)) {
    const match = /^((?:0x[0-9a-f]+\/)+)(0x[0-9a-f]+\.blob)$/.exec(path);
    if (match === null) continue;
    const oid = BigInt(`0x${match[1]!.replaceAll(/0x|\//g, "")}`);
    const { size, mode } = await Deno.stat(`${directory}/${path}`);
    const bytes = await Deno.readFile(`${directory}/${path}`);
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    files.set(`${oid}/${match[2]}`, { size, mode: mode! & 0o777, sha256: digest.toHex() });
  }
  return files;
}

/** The same blobs, of the same content and modes, and nothing else but what ZODB keeps there. */
export async function assertSameBlobs(actual: string, expected: string): Promise<void> {
  assert.deepEqual(await blobFilesOf(actual), await blobFilesOf(expected));
  const strays = (await walk(actual)).filter((path) => !/^\.layout$|^\.removed$|^0x.*\.blob$/.test(path));
  assert.deepEqual(strays, []);
}
