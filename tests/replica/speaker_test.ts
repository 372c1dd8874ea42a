import assert from "node:assert/strict";
import { Speaker } from "../../lib/replica/speaker.ts";
import { ManualClock } from "../kit/manual_clock.ts";
import { MemoryNetwork } from "../kit/memory_network.ts";

const ADDRESS = { transport: "tcp", host: "source", port: 1 } as const;
const TIMEOUT_MS = 1_000;

async function connected() {
  const network = new MemoryNetwork(8);
  using listener = await network.listen(ADDRESS);
  const here = await network.connect(ADDRESS);
  const there = await listener.accept();
  assert(there !== null);
  const clock = new ManualClock();
  return { here, there, clock, speaker: new Speaker({ clock }, here, TIMEOUT_MS) };
}

Deno.test("what a peer said before it closed the connection is read, though it heard nothing more", async () => {
  const { here, there, speaker } = await connected();
  await there.write(new TextEncoder().encode("why"));
  there.close();
  await speaker.say(new Uint8Array(3));
  await speaker.say(new Uint8Array(3));
  assert.equal(speaker.isBusy, false);
  const bytes = new Uint8Array(10);
  assert.equal(await here.read(bytes), 3);
  assert.equal(await here.read(bytes), null);
});

Deno.test("a peer that takes nothing for too long is left", async () => {
  const { here, clock, speaker } = await connected();
  const said = speaker.say(new Uint8Array(20));
  await clock.waitForTimer(TIMEOUT_MS);
  clock.advance(TIMEOUT_MS);
  await said;
  await assert.rejects(here.read(new Uint8Array(1)), /closed/);
});
