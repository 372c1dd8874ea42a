/** A site is deleted at the master, and the delayed replica still has it: as processes, and with real ZODB. */
import assert from "node:assert/strict";
import { History, openWithPending } from "../../lib/filestorage/mod.ts";
import { ask } from "../../lib/cli/control/control_client.ts";
import { systemHost } from "../../lib/host/mod.ts";
import { formatTid } from "../../lib/zodb/mod.ts";
import { OpenCheck, peerTest, ZodbWriter } from "../kit/peers.ts";
import { runZrs } from "../kit/process.ts";
import { TempDirectory } from "../kit/temp.ts";
import { sizeOf, waitForChanges, ZrsProcess } from "./processes.ts";
import { assertSameFile } from "./sameness.ts";

const { disk } = systemHost();

const OIDS = ["0000000000000000", "0000000000000001"] as const;

peerTest(
  "a delayed replica survives a kill, and is promoted to just before a mistake",
  ["zodb55", "zodb6"],
  async () => {
    await using directory = await TempDirectory.make();
    const [data, delayed, chained] = ["Data.fs", "delayed.fs", "chained.fs"].map((name) =>
      directory.join(name)
    );
    await using writer = await ZodbWriter.start("zodb55", { path: data! });
    // Long ago; then just now, by this machine's clock.
    const old = await writer.store(
      Array.from({ length: 5 }, (_, at) => ({
        tid: formatTid(0x03f5_9458_0000_0000n + BigInt(at)),
        records: OIDS.map((oid) => ({ oid, text: `old ${at}` })),
      })),
    );
    await using primary = await ZrsProcess.start(directory, "primary", data!, "--replicate-to", "0");
    const from = ["--replicate-from", primary.address, "--retry-max", "0.1"];
    const options = [...from, "--apply-delay", "1h", "--replicate-to", "0"];
    const first = await ZrsProcess.start(directory, "secondary", delayed!, ...options);
    await using downstream = await ZrsProcess.start(
      ...[directory, "secondary", chained!] as const,
      ...["--replicate-from", first.address, "--retry-max", "0.1"],
    );
    await waitForChanges("the old ones to be applied", directory.path, () => sizeOf(delayed!) === old.size);
    const good = await writer.store(
      [1, 2, 3].map((n) => ({ records: [{ oid: OIDS[1], text: `good ${n}` }] })),
    );
    const bad = await writer.store([{
      description: "a site is deleted",
      records: [{ oid: OIDS[1], text: "gone" }],
    }]);
    const after = await writer.store([{ records: [{ oid: OIDS[0], text: "work that is worth keeping" }] }]);
    await waitForChanges(
      "the chained one to catch up",
      directory.path,
      () => sizeOf(chained!) === after.size,
    );
    assert.equal(sizeOf(delayed!), old.size);
    const { out } = await runZrs("status", delayed!, "--json", "--max-lag", "0");
    const status = JSON.parse(out);
    assert.deepEqual(
      [
        status.lastTid,
        status.bytes,
        status.delay.seconds,
        status.delay.appliedTid,
        status.delay.appliedBytes,
      ],
      [after.tid, after.size, 3600, old.tid, old.size],
    );
    assert.equal(status.delay.waitingBytes, after.size - old.size);
    assert.match(
      (await runZrs("status", delayed!)).out,
      /^applied +.*\n.*bytes wait, the next is due in \d+ /m,
    );

    await first.kill();
    assert.equal(sizeOf(delayed!), old.size);
    {
      using history = await History.open(disk, delayed!);
      using whole = await openWithPending(disk, delayed!);
      assert.deepEqual([history.end, whole.end], [old.size, after.size]);
    }
    {
      using _other = disk.lock(`${delayed}.lock`); // and the node that was killed has left its socket
      const inUse = await runZrs("promote", delayed!, "--before", bad.tid);
      assert.equal(inUse.code, 5, inUse.err);
      assert.match(inUse.err, /Cannot promote .*connection refused.*stop whoever has it/);
    }
    await using again = await ZrsProcess.start(directory, "secondary", delayed!, ...options);
    assert.equal(await again.stop(), 0);
    assert.equal(sizeOf(delayed!), old.size);

    const refused = await runZrs("rewind", delayed!, "--to", old.tid, "--yes");
    assert.equal(refused.code, 2);
    assert.match(refused.err, /transactions that have been received wait beside it.*zrs promote/);
    const control = ["--control", directory.join("elsewhere")];
    await using asked = await ZrsProcess.start(directory, "secondary", delayed!, ...options, ...control);
    const unfound = await runZrs("promote", delayed!, "--before", bad.tid);
    assert.equal(unfound.code, 5);
    assert.match(unfound.err, /give --control where the node that has it open was given that/);
    for (const before of [7, "", "03f594", "2024-01-31"]) {
      const request = { request: "promote", before };
      await assert.rejects(ask(systemHost(), control[1]!, request), /refuses: .* must be a tid/);
    }
    const promoted = await runZrs("promote", delayed!, "--before", bad.tid, ...control);
    assert.equal(promoted.code, 0, promoted.err);
    assert.match(promoted.err, /^zrs promote: asking the node that keeps .* to promote it, and to stop$/);
    disk.lock(`${delayed}.lock`)[Symbol.dispose](); // let go by the time that it is said
    assert.equal((await asked.process.exited).code, 0);
    assert.match(
      promoted.out,
      /To be applied: 3 transactions, [^]*Not to be applied: 2 transactions, [^]*a site is/,
    );
    const saved = `${delayed}.rewound-${bad.tid}`;
    assert.deepEqual(
      [...Deno.readDirSync(directory.path)].map(({ name }) => name).filter((name) =>
        /pending|rewound/.test(name)
      ),
      [saved.slice(saved.lastIndexOf("/") + 1)],
    );

    const history = await writer.history();
    await writer.close();
    for (const environment of ["zodb55", "zodb6"] as const) {
      await using python = await OpenCheck.start(environment);
      const opened = await python.check(delayed!, { transactions: true });
      assert.deepEqual([opened.tid, opened.size, opened.fstest], [good.tid, good.size, null]);
      assert(opened.usedIndex, "Python takes the index that was saved");
      assert.deepEqual(opened.transactions, history.slice(0, 8));
      const rest = await python.check(saved, { transactions: true });
      assert.deepEqual(
        rest.transactions?.map(({ tid }) => tid),
        [bad.tid, after.tid],
      );
      assert.equal(rest.fstest, null);
    }
    await using taken = await ZodbWriter.start("zodb6", { path: delayed! });
    await taken.store([{ records: [{ oid: OIDS[0], text: "it is the primary now" }] }]);
    await taken.close();
    await downstream.stop();
    await assertSameFile(chained!, data!);
  },
);
