/**
 * Compares two copies, or digests one, and prints the milliseconds it took and the processor time it used, as JSON: a
 * process of its own for each round. Arguments: what to do, the path, and the other file or a primary's address.
 */
import { createHash } from "node:crypto";
import process from "node:process";
import { parseAddress } from "../../lib/cli/address.ts";
import {
  type Comparison,
  type Difference,
  digestHistory,
  FileComparison,
  FIRST_POSITION,
  History,
} from "../../lib/filestorage/mod.ts";
import { systemHost } from "../../lib/host/mod.ts";
import { ComparedSource, SourceComparison } from "../../lib/replica/mod.ts";

const host = systemHost();
const pause = () => new Promise<void>((resolve) => void host.clock.schedule(0, resolve));

async function compareFiles(path: string, other: string): Promise<void> {
  using here = await History.open(host.disk, path);
  using there = await History.open(host.disk, other);
  await expectSame(new FileComparison(here, there, { pause }));
}

async function compareNode(path: string, address: string): Promise<void> {
  using here = await History.open(host.disk, path);
  await using source = await ComparedSource.connect(host, parseAddress(address, "connect"), {
    software: "bench",
  });
  await expectSame(new SourceComparison(here, source.end, (question) => source.ask(question), { pause }));
}

async function expectSame(
  comparison: { readonly result: Comparison; differences(): AsyncGenerator<Difference> },
): Promise<void> {
  for await (const { kind, tid } of comparison.differences()) {
    throw new Error(`Cannot measure: ${kind} in transaction ${tid}`);
  }
  if (comparison.result.same === 0) throw new Error("Cannot measure: nothing was compared");
}

async function digest(path: string): Promise<void> {
  using history = await History.open(host.disk, path);
  await digestHistory(history, { from: FIRST_POSITION, through: history.lastTid }, pause);
}

/** What a digest of the whole file takes, whatever is in it. */
function sha256(path: string): void {
  using file = host.disk.openRead(path);
  const block = new Uint8Array(256 * 1024);
  const hash = createHash("sha256");
  for (let position = 0, count = 1; count > 0; position += count) {
    count = file.readAt(block, position);
    hash.update(block.subarray(0, count));
  }
  hash.digest();
}

const WORKS: Record<string, (path: string, other: string) => void | Promise<void>> = {
  files: compareFiles,
  node: compareNode,
  digest,
  sha256,
};

const [what, path, other = ""] = Deno.args;
const before = process.cpuUsage();
const start = performance.now();
await WORKS[what!]!(path!, other);
const tookMs = performance.now() - start;
const { user, system } = process.cpuUsage(before);
console.log(JSON.stringify({ tookMs, cpuMs: (user + system) / 1000 }));
