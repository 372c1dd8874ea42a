/** A power loss at any moment takes nothing from what a delayed replica has received, and applies nothing early. */
import assert from "node:assert/strict";
import { DiskError } from "../../lib/errors.ts";
import { rewindStorage } from "../../lib/filestorage/mod.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { Life } from "../simulation/life.ts";
import { apply, diskWith, ENDS, FILE, open, PATH, receive, segmentsOf } from "./delayed_kit.ts";
import { diskAfter, type Left, onMachine } from "./on_machine.ts";
import { tidAt } from "./random_history.ts";
import { replay } from "./replay.ts";

Deno.test("a power loss at any moment loses nothing that was told of, and the Data.fs gets nothing that is not due", async () => {
  let images = 0;
  let behind = 0;
  for (let seed = 1; seed <= 25; seed++) {
    const losses: { files: Left; received: number; applied: number; due: number }[] = [];
    let told = { received: ENDS[0]!, applied: ENDS[0]! };
    let due = ENDS[0]!;
    await onMachine(seed, async (machine) => {
      machine.disk.place(PATH, FILE.bytes.slice(0, ENDS[0]));
      machine.disk.observers.add({
        operated: () => void losses.push({ files: machine.losses()[0]!, ...told, due }),
      });
      const port = machine.start();
      await using storage = await open(port);
      const note = () => told = { received: storage.received.end, applied: storage.applied.end };
      using _received = storage.received.subscribe(note);
      using _applied = storage.applied.subscribe(note);
      for (const upTo of [4, 6, 9]) {
        // Both at once, as a node does it.
        const receiving = replay(FILE.bytes.slice(0, ENDS[upTo - 1]), storage.received, {
          after: storage.received.lastTid,
          runBytes: () => 200 + seed * 10,
        });
        due = ENDS[upTo - 3]!;
        await apply(storage, tidAt(upTo - 3));
        await receiving;
        await apply(storage, tidAt(upTo - 3));
      }
      await rewindStorage(port, storage.received, tidAt(7));
      told = { received: ENDS[7]!, applied: storage.applied.end };
      due = FILE.end;
      await apply(storage);
      await storage.tidy();
    });

    for (const { files, received, applied, due } of losses) {
      const label = `seed ${seed}, image ${images++}`;
      const after = diskAfter(files);
      await using storage = await open(after).catch((error) => {
        throw new Error(`${label} does not open: ${after.paths().join(" ")}`, { cause: error });
      });
      const bytes = after.bytes(PATH);
      assertSameBytes(bytes, FILE.bytes.slice(0, bytes.length));
      // What is being taken back is told of as received until it is gone.
      assert(
        storage.received.end >= Math.min(received, ENDS[7]!),
        `${label}: ${storage.received.end} < ${received}`,
      );
      assert(bytes.length >= applied, label);
      assert(bytes.length <= due, `${label}: ${bytes.length} > ${due}`);
      behind += Number(bytes.length < storage.received.end);
      await receive(storage);
      await apply(storage);
      await storage.tidy();
      assertSameBytes(after.bytes(PATH), FILE.bytes);
      assert.deepEqual(segmentsOf(after), []);
    }
  }
  assert(images > 1000 && behind > 300, `${images} images, ${behind} with something waiting`);
});

for (
  const [kept, what] of [[0, "all of it applied"], [4, "some of it kept elsewhere"]] as const
) {
  Deno.test(`a power loss while the segments are removed, with ${what}, leaves what can be opened again`, async () => {
    const losses: Left[] = [];
    await onMachine(1, async (machine) => {
      machine.disk.place(PATH, FILE.bytes.slice(0, 4));
      await using storage = await open(machine.start());
      await receive(storage);
      const operated = () => void losses.push(...machine.losses(40));
      machine.disk.observers.add({ operated });
      await apply(storage, tidAt(8 - kept));
      await storage.discardWaiting();
      operated();
    });

    let left = 0;
    for (const files of losses) {
      const after = diskAfter(files);
      left += Number(segmentsOf(after).length > 0);
      await using storage = await open(after);
      assertSameBytes(after.bytes(PATH), FILE.bytes.slice(0, storage.applied.end));
      await receive(storage);
      await apply(storage);
      assertSameBytes(after.bytes(PATH), FILE.bytes);
    }
    assert(left > 100 && left < losses.length, `segments are left in ${left} of ${losses.length} images`);
  });
}

Deno.test("a segment whose first sync has failed is as good as any when the disk works again", async () => {
  const losses = await onMachine(1, async (machine) => {
    machine.disk.place(PATH, FILE.bytes.slice(0, 4));
    machine.disk.faults.add({ on: "sync", path: `${PATH}.pending.0000000000000004`, effect: "error" });
    {
      await using storage = await open(machine.start());
      await assert.rejects(receive(storage), DiskError);
    }
    await using storage = await open(machine.start());
    await receive(storage);
    return machine.losses(40);
  });
  for (const files of losses) {
    await using storage = await open(diskAfter(files));
    assert.equal(storage.received.lastTid, tidAt(8));
  }
});

Deno.test("what a killed process has left in the segments, and a new one shows, is on disk by then", async () => {
  const before = diskWith();
  {
    await using storage = await open(before);
    await receive(storage);
  }
  const losses = await onMachine(1, async (machine) => {
    machine.disk.place(PATH, before.bytes(PATH));
    const killed = new Life("m/killed#1", "killed");
    const port = machine.start(killed);
    for (const path of segmentsOf(before)) {
      using file = port.create(path);
      file.writeAt(before.bytes(path), 0);
    }
    killed.end();
    await using storage = await open(machine.start());
    assert.equal(storage.received.lastTid, tidAt(8));
    return machine.losses(40);
  });
  for (const files of losses) {
    await using storage = await open(diskAfter(files));
    assert.equal(storage.received.lastTid, tidAt(8));
  }
});
