/** Comparing histories where real ZODB has packed one end or both. */
import assert from "node:assert/strict";
import type { LogView } from "../../lib/filestorage/mod.ts";
import type { EnvironmentName } from "../kit/environments.ts";
import { peerTest, ZodbWriter } from "../kit/peers.ts";
import { TempDirectory } from "../kit/temp.ts";
import { transactionsOf } from "../kit/transactions_of.ts";
import { compare, viewOf } from "./lineage_kit.ts";

/** A file cut behind each of its transactions, the whole of it last. */
function cutsOf(bytes: Uint8Array): { view: LogView }[] {
  return transactionsOf(bytes).map(({ tid, end }) => ({ view: viewOf(bytes.slice(0, end), tid) }));
}

for (const environment of ["zodb55", "zodb6"] satisfies EnvironmentName[]) {
  peerTest(
    `replicas of what ${environment} has packed since are told from forks`,
    [environment],
    async () => {
      await using directory = await TempDirectory.make();
      const path = directory.join("Data.fs");
      await using writer = await ZodbWriter.start(environment, { path });
      await writer.commitMany({ count: 30, size: 200, objects: 3, keys: 12 });
      await writer.undo([1]);
      const packTo = await writer.commitMany({ count: 10, size: 100, objects: 2, keys: 40 });
      await writer.commitMany({ count: 5, size: 50 });
      await writer.undo([1]);
      const unpacked = Deno.readFileSync(path);
      await writer.pack({ tid: packTo.tid });
      const packed = Deno.readFileSync(path);
      assert.ok(packed.length < unpacked.length);

      // Every replica of the unpacked file goes on behind its last transaction.
      const source = cutsOf(packed).at(-1)!;
      const kinds = new Set<string>();
      for (const replica of cutsOf(unpacked)) {
        const { lineage } = await compare(source, replica);
        assert(lineage.kind === "shared" || lineage.kind === "beyond the pack", lineage.kind);
        const next = transactionsOf(packed).find(({ tid }) => tid > replica.view.lastTid);
        assert.equal(lineage.position, next?.position ?? packed.length);
        kinds.add(lineage.kind);
      }
      assert.equal(kinds.size, 2);

      // So does a replica that has been packed itself, of a source that has not, or that lags behind it.
      for (const original of cutsOf(unpacked)) {
        const { lineage } = await compare(original, source);
        const isLast = original.view.lastTid === source.view.lastTid;
        assert.match(lineage.kind, isLast ? /^shared$/ : /^ahead$/);
      }

      // After a restored backup of the file before the pack, other commits: a fork behind the last of these.
      await writer.commitMany({ count: 3, size: 50 });
      const grown = Deno.readFileSync(path);
      const restored = directory.join("Restored.fs");
      Deno.writeFileSync(restored, unpacked);
      await using other = await ZodbWriter.start(environment, { path: restored });
      await other.commitMany({ count: 3, size: 50 });
      const { lineage } = await compare(cutsOf(grown).at(-1)!, cutsOf(Deno.readFileSync(restored)).at(-1)!);
      assert(lineage.kind === "forked" && lineage.exact);
      assert.equal(lineage.common, source.view.lastTid);
    },
  );
}
