/**
 * Opens a Data.fs as its owner does and prints the milliseconds it took, as JSON: a process of its own for each
 * round, so that code is as cold as at a real start. Argument: the path.
 */
import { Storage } from "../../lib/filestorage/mod.ts";
import { systemHost } from "../../lib/host/mod.ts";

const start = performance.now();
await using storage = await Storage.open(systemHost().disk, Deno.args[0]!);
const tookMs = performance.now() - start;
console.log(JSON.stringify({ tookMs, usedIndex: storage.report.indexReason === undefined }));
