/** Another machine that does not answer any more, as with a disk that hangs: it is given up, for cron waits for us. */
import assert from "node:assert/strict";
import { UnavailableError } from "../../lib/errors.ts";
import type { Random } from "../../lib/ports/mod.ts";
import { connectFar, type FarPlace, type FarPorts, pushFar } from "../../lib/replica/mod.ts";
import { CollectedLog } from "../kit/collected_log.ts";
import { dataFs } from "../kit/data_fs.ts";
import { ManualClock, othersHaveRun } from "../kit/manual_clock.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import { MemoryNetwork } from "../kit/memory_network.ts";
import { type ScriptedChild, ScriptedProcesses } from "../kit/scripted_processes.ts";
import { history } from "./sync_kit.ts";

const PLACE: FarPlace = { host: "db1", name: "db1:Data.fs", path: "Data.fs", command: ["ssh", "db1"] };
const RANDOM: Random = { unit: () => 0, bytes: (count) => new Uint8Array(count).fill(7) };
const MARK = `zrs-${"07".repeat(16)}`;
const OPTIONS = { blobs: "refuse", mayAsk: false } as const;

function sceneOf() {
  const [processes, clock] = [new ScriptedProcesses(), new ManualClock()];
  const ports: FarPorts = { processes, clock, random: RANDOM, log: new CollectedLog() };
  return { processes, clock, ports };
}

/** The program there, once it has been asked. */
async function asked(child: () => ScriptedChild | undefined, question: string): Promise<ScriptedChild> {
  for (;;) {
    const found = child();
    if (found?.input.endsWith(`${question}\n`)) return found;
    await othersHaveRun();
  }
}

Deno.test("a machine from which nothing comes for ten minutes is given up, and one that is slow is not", async () => {
  const { processes, clock, ports } = sceneOf();
  const child = () => processes.started[0];
  const connecting = connectFar(ports, PLACE, { ...OPTIONS, by: "tools" });
  (await asked(child, "zrs_far; exit")).say(`\n${MARK} hello none none\n`);
  (await asked(child, "look")).say(`\n${MARK} found 1 100\n`);
  using far = await connecting;
  assert.ok(far.kind === "tools");
  const reading = assert.rejects(far.file.bytes(0, 100), (error) => {
    return error instanceof UnavailableError &&
      /^Cannot read db1:Data\.fs: nothing has come from there for 600 s$/.test(error.message);
  });
  await asked(child, "read 1 0 1");
  for (let pieces = 0; pieces < 3; pieces++) {
    clock.advance(599_000);
    child()!.say("a piece");
    await othersHaveRun();
  }
  assert.equal(child()!.isKilled, false);
  clock.advance(600_000);
  await reading;
  assert.equal(child()!.isKilled, true);
});

Deno.test("zrs there that takes nothing and does not end is given up", async () => {
  const { processes, clock, ports } = sceneOf();
  const child = () => processes.started[0];
  const disk = new MemoryDisk();
  disk.addDirectory("/srv");
  disk.put("/srv/Data.fs", dataFs(history(3)).bytes);
  const pushing = pushFar({ ...ports, disk, network: new MemoryNetwork() }, PLACE, {
    ...OPTIONS,
    path: "/srv/Data.fs",
  });
  const failing = assert.rejects(pushing, (error) => {
    return error instanceof UnavailableError && /has not ended within 600 s/.test(error.message);
  });
  (await asked(child, "zrs_far; exit")).say(`\n${MARK} hello 0.1.0 none\n`);
  await asked(child, "zrs");
  await clock.waitForTimer(60_000);
  clock.advance(60_000);
  await clock.waitForTimer(600_000);
  assert.deepEqual([child()!.isInputClosed, child()!.isKilled], [true, false]);
  clock.advance(600_000);
  await failing;
  assert.deepEqual(clock.delays, []);
});
