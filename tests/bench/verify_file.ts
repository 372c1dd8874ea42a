/**
 * Verifies a Data.fs and prints the milliseconds it took and the most memory there was (MiB), as JSON: a process
 * of its own for each round. Arguments: the path, and "pickles" or "references" for what shall be checked beside
 * the structure.
 */
import { Verification } from "../../lib/filestorage/mod.ts";
import { systemHost } from "../../lib/host/mod.ts";
import { memoryOf } from "./process_usage.ts";

const [path, what] = Deno.args;
const start = performance.now();
using verification = Verification.open(systemHost().disk, path!);
const options = { pickles: what === "pickles", references: what === "references" };
for await (const { kind } of verification.findings(options)) {
  if (kind !== "unreachable") throw new Error(`Cannot measure: ${path} has a ${kind}`);
}
const tookMs = performance.now() - start;
console.log(JSON.stringify({ tookMs, peakMiB: memoryOf(Deno.pid).peak }));
