/**
 * Packs a Data.fs to now by `zrs pack` and prints what that took, as JSON: milliseconds, bytes read and written by
 * system calls, and the most memory there was (MiB). A process of its own for each round. Argument: the path.
 */
import { run } from "../../lib/cli/mod.ts";
import { systemHost } from "../../lib/host/mod.ts";
import { memoryOf, transferredBy } from "./process_usage.ts";

const before = transferredBy(Deno.pid);
const start = performance.now();
const code = await run(["pack", Deno.args[0]!, "--quiet"], systemHost());
if (code !== 0) throw new Error(`Cannot measure: zrs pack ended with ${code}`);
const tookMs = performance.now() - start;
const after = transferredBy(Deno.pid);
console.log(JSON.stringify({
  tookMs,
  read: after.read - before.read,
  written: after.written - before.written,
  peakMiB: memoryOf(Deno.pid).peak,
}));
