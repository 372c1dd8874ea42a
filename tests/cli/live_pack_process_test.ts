/** `zrs pack` beside a running node. */
import assert from "node:assert/strict";
import { systemHost } from "../../lib/host/mod.ts";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { beforeDeadline } from "../kit/feed.ts";
import { type Ended, endOf, startZrs, waitForReadyFile } from "../kit/process.ts";
import { TempDirectory } from "../kit/temp.ts";
import { transactionsOf } from "../kit/transactions_of.ts";

const FIRST_TID = 0x03f0_0000_0000_0001n;
/** A root without references, as ZODB pickles it. */
const ROOT = new Uint8Array([0x80, 3, ...new TextEncoder().encode("cm\nC\n"), 0x2e, 0x80, 3, 0x7d, 0x2e]);
const HISTORY = Array.from({ length: 20 }, (_, index): TransactionDescription => ({
  tid: FIRST_TID + (BigInt(index) << 32n),
  records: [{ oid: 0n, data: ROOT }],
}));
const FILE = dataFs(HISTORY).bytes;

async function zrs(...args: string[]): Promise<Ended> {
  await using process = startZrs(args);
  return await beforeDeadline(`zrs ${args[0]}`, endOf(process));
}

Deno.test("zrs pack has a running secondary pack its file, and says so in the words and codes of any pack", async () => {
  await using directory = await TempDirectory.make();
  const [source, copy] = [directory.join("Data.fs"), directory.join("copy.fs")];
  await Deno.writeFile(source, FILE);
  await using primary = startZrs([
    ...["primary", source, "--replicate-to", directory.join("p"), "--control", directory.join("p.control")],
    ...["--ready-file", directory.join("p.ready")],
  ]);
  await waitForReadyFile(directory.join("p.ready"), primary);
  await using secondary = startZrs([
    ...[
      "secondary",
      copy,
      "--replicate-from",
      directory.join("p"),
      "--ready-file",
      directory.join("s.ready"),
    ],
  ]);
  await waitForReadyFile(directory.join("s.ready"), secondary);
  await secondary.stderr.waitFor("all to have come", (line) => line.includes("03f0001300000001"));

  const packed = await zrs("pack", copy, "--json");
  assert.deepEqual([packed.code, packed.err], [0, ""]);
  const { path, tid, transactionsBefore, transactionsAfter, keptAs } = JSON.parse(packed.out);
  // The last transaction stays as it is.
  assert.deepEqual([path, tid, transactionsBefore, transactionsAfter], [copy, "03f0001200000001", 20, 2]);
  assert.equal(keptAs, `${copy}.old`);
  assert.deepEqual(transactionsOf(await Deno.readFile(copy)).map(({ status }) => status), ["p", " "]);
  assert.deepEqual(await Deno.readFile(keptAs), FILE);
  assert.match((await zrs("pack", copy)).out, /there is nothing to drop up to then/);
  const [before] = (await zrs("status", copy)).out.split("\n");
  assert.match(before!, /secondary/);

  const followed = await zrs("pack", directory.join("p.control"));
  assert.equal(followed.code, 2);
  assert.match(followed.err, /this node only follows it, and another program writes it/);
  await secondary.stop();

  await using delayed = startZrs([
    ...["secondary", copy, "--replicate-from", directory.join("p"), "--apply-delay", "1h"],
    ...["--ready-file", directory.join("d.ready"), "--control", directory.join("d.control")],
  ]);
  await waitForReadyFile(directory.join("d.ready"), delayed);
  const unfound = await zrs("pack", copy);
  assert.equal(unfound.code, 5);
  assert.match(unfound.err, /give --control where the node that has it open was given that/);
  const refused = await zrs("pack", copy, "--control", directory.join("d.control"));
  assert.equal(refused.code, 2);
  assert.match(refused.err, /transactions wait beside it, for it runs with --apply-delay/);

  await delayed.stop("SIGKILL"); // its socket stays
  using _held = systemHost().disk.lock(`${copy}.lock`);
  const locked = await zrs("pack", copy);
  assert.equal(locked.code, 5);
  assert.match(locked.err, /Cannot lock .*copy\.fs\.lock: process \d+ holds it/);
});
