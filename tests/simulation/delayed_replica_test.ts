/**
 * A delayed replica that is killed, and loses its power, again and again: its Data.fs never holds what is not due,
 * what it has shown to others is never lost, and at rest all is applied.
 */
import assert from "node:assert/strict";
import { Primary, Secondary } from "../../lib/replica/mod.ts";
import { tidOfTime, timeOfTid } from "../../lib/zodb/mod.ts";
import { dataFs } from "../kit/data_fs.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { BEGINNING_MS } from "./clock.ts";
import { SimulatedMachine } from "./machine.ts";
import { SimulatedNetwork } from "./network.ts";
import { SeededRandom } from "./random.ts";
import { Scheduler } from "./scheduler.ts";
import { TrackedFile } from "./tracked_file.ts";

const SEEDS = 60;
const DATA_FS = "/db/Data.fs";
const PORT = 5000;
const BUFFERS = { readBytes: 1024, runBytes: 2048, sendBytes: 1024 };

/** Transactions from some seconds ago to some seconds from now. */
function historyOf(random: SeededRandom): Uint8Array {
  let ms = BEGINNING_MS - 3_000;
  return dataFs(Array.from({ length: 30 }, (_, at) => ({
    tid: tidOfTime(ms += 1 + random.int(400)),
    records: [{ oid: BigInt(at % 4), data: new Uint8Array(1 + random.int(900)).fill(at) }],
  }))).bytes;
}

async function live(seed: number): Promise<{ cuts: number; early: number }> {
  const random = new SeededRandom(seed);
  const scheduler = new Scheduler(random);
  await using _ = scheduler;
  const network = new SimulatedNetwork(scheduler, random);
  const surroundings = { scheduler, network, random };
  const [source, machine] = [
    new SimulatedMachine(surroundings, "S"),
    new SimulatedMachine(surroundings, "R"),
  ];
  machine.disk.makeDirectory("/db");
  const history = historyOf(random);
  source.disk.place(DATA_FS, history);
  const applyDelayMs = 100 + random.int(2_000);

  source.start("zrs", async (ports, signal) => {
    const replicateTo = { transport: "tcp", host: "0.0.0.0", port: PORT } as const;
    await using primary = await Primary.open(ports, {
      path: DATA_FS,
      replicateTo,
      blobs: "refuse",
      buffers: BUFFERS,
    });
    await primary.run(signal);
  });

  let shown = 0n;
  let early = 0;
  const file = new TrackedFile(machine.disk, DATA_FS);
  file.onLive = (unchanged) => {
    for (const { tid } of file.live.transactions.slice(unchanged)) {
      const tooEarlyMs = timeOfTid(tid) + applyDelayMs - machine.clock.now();
      assert(tooEarlyMs <= 0, `seed ${seed}: ${tid.toString(16)} is applied ${tooEarlyMs} ms too early`);
    }
    if (file.live.transactions.length === 0) return; // not even its first four bytes may be there
    assertSameBytes(machine.disk.bytes(DATA_FS)!.slice(0, file.live.end), history.slice(0, file.live.end));
  };
  const start = () =>
    machine.start("zrs", async (ports, signal) => {
      await using secondary = await Secondary.open(ports, {
        ...{
          path: DATA_FS,
          blobs: "refuse",
          retryMaxMs: 200,
          buffers: BUFFERS,
          applyDelayMs,
          indexSaveMs: 300,
        },
        replicateFrom: { transport: "tcp", host: "S", port: PORT },
      });
      assert(secondary.lastTid >= shown, `seed ${seed}: what was shown is lost`);
      const show = () => {
        shown = secondary.lastTid;
        if (shown > file.live.lastTid) early++;
      };
      using _subscription = secondary.subscribe(show);
      await secondary.run(signal);
    });

  let process = start();
  const cuts = random.int(12);
  for (let cut = 0; cut < cuts; cut++) {
    await scheduler.runFor(random.int(1_200));
    if (process.outcome.state === "failed") throw process.outcome.error;
    const how = random.pick(["kill", "power", "stop", "clock"]);
    if (how === "clock") {
      machine.clock.step(random.int(1_000)); // set forwards: what is due is due sooner
      continue;
    }
    if (how === "kill") machine.kill();
    else if (how === "power") {
      machine.crash();
      machine.restart();
    } else {
      process.stop();
      await scheduler.runUntil(() => !process.running);
    }
    process = start();
  }
  await scheduler.runUntil(() => machine.disk.bytes(DATA_FS)?.length === history.length);
  process.stop();
  await scheduler.runUntil(() => !process.running);
  assert.equal(process.outcome.state, "finished");
  assertSameBytes(machine.disk.bytes(DATA_FS)!, history);
  const left = machine.disk.paths().filter((path) => /pending|\.tmp/.test(path));
  assert.deepEqual(left, []);
  return { cuts, early };
}

Deno.test(`in ${SEEDS} worlds a delayed replica applies nothing early, loses nothing, and comes to rest`, async () => {
  let cuts = 0;
  let early = 0;
  for (let seed = 1; seed <= SEEDS; seed++) {
    const lived = await live(seed);
    cuts += lived.cuts;
    early += lived.early;
  }
  assert(cuts > 200 && early > 200, `${cuts} cuts, ${early} times more was received than applied`);
});
