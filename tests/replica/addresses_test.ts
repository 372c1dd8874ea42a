/** Addresses that cannot be used, on the real machine: said in one line, and nothing is left behind. */
import assert from "node:assert/strict";
import { UsageError } from "../../lib/errors.ts";
import { dataFs } from "../kit/data_fs.ts";
import { addressOf, ANY_PORT, startPrimary, startSecondary } from "../kit/node.ts";
import { freePort } from "../kit/process.ts";
import { TempDirectory } from "../kit/temp.ts";

const TID = 0x036c_9000_0000_0001n;
const HISTORY = [{ tid: TID, records: [{ oid: 0n, data: "one" }] }];

Deno.test("a primary whose port is in use does not begin, and its file can be followed elsewhere", async () => {
  await using directory = await TempDirectory.make();
  const path = directory.join("Data.fs");
  await Deno.writeFile(path, dataFs(HISTORY).bytes);
  await using first = await startPrimary({ path });
  await assert.rejects(
    startPrimary({ path, replicateTo: addressOf(first.address) }),
    (error) => error instanceof UsageError && /Cannot listen on 127.0.0.1:\d+: .*in use/.test(error.message),
  );
  await using second = await startPrimary({ path });
  assert.notEqual(second.address, first.address);
});

Deno.test("a Unix socket that a killed primary left is replaced, one that is served is not", async () => {
  await using directory = await TempDirectory.make();
  const path = directory.join("Data.fs");
  const socket = addressOf(directory.join("socket"));
  await Deno.writeFile(path, dataFs(HISTORY).bytes);
  const stale = new Deno.Command(Deno.execPath(), {
    args: [
      "eval",
      `Deno.listen({ transport: "unix", path: ${
        JSON.stringify(directory.join("socket"))
      } }); Deno.kill(Deno.pid, "SIGKILL")`,
    ],
  });
  assert.equal((await stale.output()).signal, "SIGKILL");
  assert.equal(Deno.statSync(directory.join("socket")).isSocket, true);

  await using primary = await startPrimary({ path, replicateTo: socket });
  await assert.rejects(startPrimary({ path, replicateTo: socket }), UsageError);
  await using secondary = await startSecondary({ path: directory.join("copy.fs"), replicateFrom: socket });
  await secondary.waitForTid(TID);
  await primary.stop();
  assert.throws(() => Deno.statSync(directory.join("socket")), Deno.errors.NotFound);
});

Deno.test("a source that cannot be reached is named with the reason, and tried again", async () => {
  await using directory = await TempDirectory.make();
  const port = freePort();
  for (
    const [i, [from, says]] of ([
      ["zrs.invalid:5000", /Cannot connect to zrs.invalid:5000: .*(unknown|resolve|lookup|host)/i],
      [`127.0.0.1:${port}`, /Cannot connect to 127.0.0.1:\d+: .*refused/i],
      [directory.join("no-socket"), /Cannot connect to .*no-socket: /],
    ] as const).entries()
  ) {
    await using secondary = await startSecondary({ path: directory.join(`${i}.fs`), replicateFrom: from });
    const { level } = await secondary.log.waitFor(says);
    assert.equal(level, "warning");
    await secondary.log.waitFor(says, { from: secondary.log.lines.items.length });
    await secondary.stop();
  }
});

Deno.test("a file that is followed cannot be its own copy, also after it was replaced", async () => {
  await using directory = await TempDirectory.make();
  const path = directory.join("Data.fs");
  await Deno.writeFile(path, dataFs(HISTORY).bytes);
  await using primary = await startPrimary({ path, replicateTo: ANY_PORT });
  const refused = async () => {
    await assert.rejects(
      startSecondary({ path, replicateFrom: primary.address }),
      (error) => error instanceof UsageError && /source and copy would be the same/.test(error.message),
    );
  };
  await refused();
  await Deno.writeFile(directory.join("backup"), dataFs([{ ...HISTORY[0]!, tid: TID - 1n }]).bytes);
  await Deno.rename(directory.join("backup"), path);
  await primary.log.waitFor(/rolled back/);
  await refused();
});
