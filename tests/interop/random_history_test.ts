/** Whatever real ZODB makes of random transactions and undos, the copy has. */
import { startPrimary, startSecondary } from "../kit/node.ts";
import { OpenCheck, peerTest, ZodbWriter } from "../kit/peers.ts";
import { TempDirectory } from "../kit/temp.ts";
import { randomSteps, take } from "./random_history.ts";
import { assertSameDatabase, assertSameFile } from "./sameness.ts";

for (const environment of ["zodb55", "zodb6"] as const) {
  for (const duplicates of [false, true]) {
    const what = duplicates ? "an object several times in a transaction" : "an object once in a transaction";
    peerTest(`random histories with ${what} are copied (${environment})`, [environment], async () => {
      await using directory = await TempDirectory.make();
      await using zodb = await OpenCheck.start(environment);
      for (let seed = 1; seed <= 3; seed++) {
        const source = directory.join(`${seed}.fs`);
        const [live, late] = [directory.join(`${seed}-live.fs`), directory.join(`${seed}-late.fs`)];
        await using writer = await ZodbWriter.start(environment, { path: source });
        await using primary = await startPrimary({ path: source });
        await using follows = await startSecondary({ path: live, replicateFrom: primary.address });
        const { tid } = await take(randomSteps({ seed, count: 150, duplicates }), writer);
        await using catchesUp = await startSecondary({ path: late, replicateFrom: primary.address });
        await follows.waitForTid(tid);
        await catchesUp.waitForTid(tid);
        for (const copy of [live, late]) {
          if (duplicates) await assertSameDatabase(zodb, copy, source, { links: false });
          else await assertSameFile(copy, source);
        }
        await assertSameFile(late, live);
      }
    });
  }
}
