import assert from "node:assert/strict";
import { Generation, Subscribers } from "../../lib/filestorage/mod.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";

Deno.test("every subscription is called once for each notice, until it is disposed of", () => {
  const subscribers = new Subscribers();
  const calls: string[] = [];
  const twice = () => void calls.push("twice");
  const first = subscribers.add(twice);
  const second = subscribers.add(twice);
  using _ = subscribers.add(() => void calls.push("other"));
  subscribers.notify();
  assert.deepEqual(calls, ["twice", "twice", "other"]);
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  subscribers.notify();
  assert.deepEqual(calls.slice(3), ["twice", "other"]);
  second[Symbol.dispose]();
});

Deno.test("a subscription made during a notice waits for the next one", () => {
  const subscribers = new Subscribers();
  let calls = 0;
  const late: Disposable[] = [];
  subscribers.add(() => late.push(subscribers.add(() => calls++)));
  subscribers.notify();
  assert.equal(calls, 0);
  subscribers.notify();
  assert.equal(calls, 1);
});

Deno.test("a file stays open until the last who holds it has let go", () => {
  const disk = new MemoryDisk();
  disk.put("/data/Data.fs", new Uint8Array(4));
  const file = disk.openRead("/data/Data.fs");
  const generation = new Generation(0, file);
  const held = generation.hold();
  assert.equal(held, generation);
  generation.release();
  assert.equal(file.size(), 4);
  held.release();
  assert.throws(() => file.size());
});
