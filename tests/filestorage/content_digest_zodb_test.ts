/** Digests of what real ZODB wrote, before and after it packed. */
import assert from "node:assert/strict";
import type { EnvironmentName } from "../kit/environments.ts";
import { peerTest, ZodbWriter } from "../kit/peers.ts";
import { TempDirectory } from "../kit/temp.ts";
import { transactionsOf } from "../kit/transactions_of.ts";
import { digestsOf } from "./digests_of.ts";

for (const environment of ["zodb55", "zodb6"] satisfies EnvironmentName[]) {
  peerTest(`a pack by ${environment} leaves the digests of what it leaves`, [environment], async () => {
    await using directory = await TempDirectory.make();
    const path = directory.join("Data.fs");
    await using writer = await ZodbWriter.start(environment, { path });
    await writer.commit([["a", 100], ["b", 200]], { user: "bob", extension: { note: [1, "kept"] } });
    await writer.commit([["a", 300], ["c", 70_000]]);
    const changed = await writer.commit([["a", 100], ["b", null]]);
    const packTo = await writer.commit([["d", 10]]);
    await writer.undo([packTo.tid, changed.tid]);
    await writer.commit([["a", 5]]);
    await writer.undo([1]);
    const before = await digestsOf(Deno.readFileSync(path));
    await writer.pack({ tid: packTo.tid });
    const packed = Deno.readFileSync(path);
    const after = await digestsOf(packed);
    assert.ok(packed.length < (await Deno.stat(`${path}.old`)).size, "the pack removed something");

    const statusOf = new Map(transactionsOf(packed).map(({ tid, status }) => [tid, status]));
    let lessened = 0;
    for (const [tid, digests] of after) {
      const original = before.get(tid)!;
      if (statusOf.get(tid) === "p") {
        const kept = original.each.filter((record) =>
          digests.each.some((each) => each[0] === record[0] && each[1] === record[1])
        );
        assert.deepEqual(digests.each, kept, "records that are left are the same, in the same order");
        if (kept.length < original.records) lessened++;
      } else {
        assert.deepEqual(digests, original);
      }
    }
    assert.ok(lessened > 0, "some transaction lost records");
  });
}
