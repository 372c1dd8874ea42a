/** Damaged files opened by us and by real ZODB: the same is kept, cut and saved, or both refuse. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { CorruptError } from "../../lib/errors.ts";
import { Storage, TRANSACTION } from "../../lib/filestorage/mod.ts";
import { HostDisk } from "../../lib/host/disk.ts";
import { formatTid } from "../../lib/zodb/mod.ts";
import type { EnvironmentName } from "../kit/environments.ts";
import { PeerError } from "../kit/peer.ts";
import { OpenCheck, peerTest } from "../kit/peers.ts";
import { TempDirectory } from "../kit/temp.ts";
import { damagedFile } from "./damage.ts";

/** What opening made of a file; `reason` is for telling known differences. */
type Outcome =
  | {
    readonly kind: "opened";
    readonly bytes: Uint8Array;
    readonly saved: Uint8Array | null;
    readonly tid: string;
  }
  | { readonly kind: "refused"; readonly reason: string };

function left(path: string, tid: string): Outcome {
  let saved: Uint8Array | null = null;
  try {
    saved = Deno.readFileSync(`${path}.tr0`);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return { kind: "opened", bytes: Deno.readFileSync(path), saved, tid };
}

async function openedByUs(path: string): Promise<Outcome> {
  try {
    await using storage = await Storage.open(new HostDisk(), path);
    return left(path, formatTid(storage.lastTid));
  } catch (error) {
    if (error instanceof CorruptError) return { kind: "refused", reason: error.message };
    throw error;
  }
}

async function openedByZodb(check: OpenCheck, path: string): Promise<Outcome> {
  try {
    const { tid } = await check.check(path, { readOnly: false, transactions: false });
    return left(path, tid);
  } catch (error) {
    if (error instanceof PeerError) return { kind: "refused", reason: error.type };
    throw error;
  }
}

/** What the table of ends of files says is different on purpose. */
function isKnownDifference(ours: Outcome, theirs: Outcome): boolean {
  if (theirs.kind === "refused") return theirs.reason === "UnicodeDecodeError"; // a status byte over 0x7f
  if (ours.kind === "refused") return /its status must be|back pointer must lead backwards/.test(ours.reason);
  return ours.saved === null && theirs.saved?.length === TRANSACTION.size; // a bare header
}

for (const environment of ["zodb55", "zodb6"] satisfies EnvironmentName[]) {
  peerTest(`damaged files are taken as ${environment} takes them`, [environment], async () => {
    await using directory = await TempDirectory.make();
    await using check = await OpenCheck.start(environment);
    const counts = { opened: 0, cut: 0, refused: 0 };
    let different = 0;
    for (const [index, bytes] of fc.sample(damagedFile, { numRuns: 400 }).entries()) {
      const path = directory.join(`${index}.ours`);
      const theirPath = directory.join(`${index}.theirs`);
      for (const each of [path, theirPath]) Deno.writeFileSync(each, bytes);
      const ours = await openedByUs(path);
      const theirs = await openedByZodb(check, theirPath);
      if (
        ours.kind !== theirs.kind ||
        (ours.kind === "opened" && theirs.kind === "opened" && ours.saved?.length !== theirs.saved?.length)
      ) {
        assert(isKnownDifference(ours, theirs), `${index}: ${Deno.inspect({ ours, theirs })}`);
        different++;
      } else if (ours.kind === "opened" && theirs.kind === "opened") {
        assert.deepEqual(ours.bytes, theirs.bytes, `${index}`);
        assert.deepEqual(ours.saved, theirs.saved, `${index}`);
        counts[ours.bytes.length === bytes.length ? "opened" : "cut"]++;
        // It takes the tid of a header that it rejects for the last one.
        if (ours.bytes.length === bytes.length) assert.equal(ours.tid, theirs.tid, `${index}`);
      } else {
        counts.refused++;
      }
    }
    for (const [outcome, count] of Object.entries(counts)) assert(count > 50, `${outcome}: ${count}`);
    assert(different < 20, `${different} were different`);
  });
}
