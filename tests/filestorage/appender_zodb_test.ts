/** What a crash may leave of our writing, opened by real ZODB: the same prefix as we find. */
import assert from "node:assert/strict";
import type { EnvironmentName } from "../kit/environments.ts";
import { OpenCheck, peerTest } from "../kit/peers.ts";
import { TempDirectory } from "../kit/temp.ts";
import { CrashFile } from "./crash_file.ts";
import { appendLarge, appendTwoRuns, beginningOf, fileFrom } from "./runs.ts";

for (const environment of ["zodb55", "zodb6"] satisfies EnvironmentName[]) {
  peerTest(`${environment} opens what any crash leaves to a prefix`, [environment], async () => {
    await using directory = await TempDirectory.make();
    await using check = await OpenCheck.start(environment);
    let images = 0;
    for (const end of [488, 491, 495, 497, 500, 505, 512]) {
      for (
        const [file, append] of [[fileFrom(end, 300, 400, 500), appendTwoRuns], [
          fileFrom(end, 900),
          appendLarge,
        ]] as const
      ) {
        const target = new CrashFile(beginningOf(file));
        await append(file, target);
        for (const { bytes, told } of target.crashImages()) {
          // Enough of them, and all where a header is torn.
          if (images++ % 3 !== 0 && end !== 500) continue;
          const path = directory.join(`${images}.fs`);
          Deno.writeFileSync(path, bytes);
          const { size } = await check.check(path, { readOnly: false, transactions: false });
          const kept = Deno.readFileSync(path);
          assert.equal(kept.length, size, `from ${end}`);
          assert(size >= told, `from ${end}`);
          assert(file.transactions.some((transaction) => transaction.end === size), `from ${end}`);
          assert.deepEqual(kept, file.bytes.slice(0, size), `from ${end}`);
        }
      }
    }
    assert(images > 300, `only ${images} images`);
  });
}
