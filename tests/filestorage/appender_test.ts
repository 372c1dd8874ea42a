import assert from "node:assert/strict";
import { CorruptError, DiskError, DiskFullError } from "../../lib/errors.ts";
import { Storage, TRANSACTION } from "../../lib/filestorage/mod.ts";
import type { BuiltFile } from "../kit/data_fs.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import { CrashFile } from "./crash_file.ts";
import { tidAt } from "./random_history.ts";
import { appenderOn, appendLarge, appendTwoRuns, beginningOf, fileFrom, runOf } from "./runs.ts";

const PATH = "/data/Data.fs";

async function opened(bytes: Uint8Array): Promise<Uint8Array> {
  const disk = new MemoryDisk();
  disk.put(PATH, bytes);
  await using _ = await Storage.open(disk, PATH);
  return disk.bytes(PATH);
}

/** Asserts that every crash leaves a file that opens to a prefix, and has what was told to be durable. */
async function assertSurvivesCrashes(file: BuiltFile, target: CrashFile, label: string): Promise<number> {
  const boundaries = new Set(file.transactions.map(({ end }) => end));
  let count = 0;
  for (const { bytes, told } of target.crashImages()) {
    const kept = await opened(bytes).catch((error) => {
      throw new Error(`${label}: image ${count} does not open`, { cause: error });
    });
    assert(boundaries.has(kept.length), `${label}: image ${count} opens to ${kept.length}`);
    assert.deepEqual(kept, file.bytes.slice(0, kept.length), label);
    assert(kept.length >= told, `${label}: image ${count} lost what was told to be durable`);
    count++;
  }
  return count;
}

Deno.test("a run is fenced, written, synced and finished, and the next run's fence goes with that", async () => {
  const file = fileFrom(200, 10, 20, 30);
  const target = new CrashFile(beginningOf(file));
  await appendTwoRuns(file, target);
  const [one, , three] = file.transactions.slice(1);
  const first = runOf(file, 1, 2);
  const second = runOf(file, 3);
  assert.deepEqual(target.performed, [
    `write 23 at ${one!.position}`,
    "sync",
    `write 23 at ${one!.position}`,
    `write ${first.bytes.length - 23} at ${one!.position + 23}`,
    "sync",
    `write 1 at ${one!.position + 16}`,
    `write 23 at ${three!.position}`,
    "sync",
    `write 23 at ${three!.position}`,
    `write ${second.bytes.length - 23} at ${three!.position + 23}`,
    "sync",
    `write 1 at ${three!.position + 16}`,
    "sync",
  ]);
  assert.deepEqual(target.bytes, file.bytes);
});

Deno.test("a run's own bytes are not changed while it is written", async () => {
  const file = fileFrom(200, 200_000);
  const target = new CrashFile(beginningOf(file));
  const run = runOf(file, 1);
  const before = run.bytes.slice();
  const appending = appenderOn(target).append(run, () => false);
  for (let done = false; !done;) {
    assert.deepEqual(run.bytes, before);
    done = await Promise.race([appending.then(() => true), Promise.resolve().then(() => false)]);
  }
  assert.deepEqual(target.bytes, file.bytes);
});

Deno.test("what counts grows by whole runs, when they are durable", async () => {
  const file = fileFrom(200, 10, 20, 30);
  const target = new CrashFile(beginningOf(file));
  const appender = appenderOn(target);
  const appending = appender.append(runOf(file, 1, 2), () => {
    assert.equal(appender.end, 200);
    assert.equal(appender.lastTid, tidAt(0));
    return false;
  });
  assert.equal(appender.end, 200);
  await appending;
  assert.equal(appender.end, file.transactions[2]!.end);
  assert.equal(appender.lastTid, tidAt(2));
});

Deno.test("a transaction in parts is hidden by its header, which is written last", async () => {
  const file = fileFrom(200, 1000);
  const target = new CrashFile(beginningOf(file));
  await appendLarge(file, target);
  assert.equal(target.performed.at(-4), "write 23 at 200");
  assert.deepEqual(target.performed.slice(-3), ["sync", "write 1 at 216", "sync"]);
  assert.deepEqual(target.bytes, file.bytes);
});

Deno.test("after any crash between two runs the file opens to a prefix with all that was durable", async () => {
  // Beginning at each offset around a sector's end, so that headers and fences are torn everywhere.
  let count = 0;
  for (let end = 486; end <= 514; end++) {
    const file = fileFrom(end, 300, 400, 500);
    const target = new CrashFile(beginningOf(file));
    await appendTwoRuns(file, target);
    count += await assertSurvivesCrashes(file, target, `runs from ${end}`);
  }
  assert(count > 800, `only ${count} images`);
});

Deno.test("after any crash during a transaction in parts the file opens to a prefix", async () => {
  let count = 0;
  for (let end = 486; end <= 514; end++) {
    const file = fileFrom(end, 900);
    const target = new CrashFile(beginningOf(file));
    await appendLarge(file, target);
    count += await assertSurvivesCrashes(file, target, `parts from ${end}`);
  }
  assert(count > 800, `only ${count} images`);
});

/** Calls `work` with every failure of every operation, whole and short, until a run passes without one. */
async function withEachFault(
  initial: Uint8Array,
  work: (target: CrashFile, label: string) => Promise<void>,
): Promise<number> {
  let faults = 0;
  for (const error of ["io", "full"] as const) {
    for (const written of [0, 1, 16, 400]) {
      for (let nth = 1;; nth++) {
        const target = new CrashFile(initial, { nth, error, written });
        await work(target, `${error} at operation ${nth}, ${written} bytes written`);
        if (!target.faultIsOver) break;
        faults++;
      }
    }
  }
  return faults;
}

for (const [what, append] of [["runs", appendTwoRuns], ["parts", appendLarge]] as const) {
  Deno.test(`any failure while ${what} are written is told by name, and the file opens to a prefix`, async () => {
    const file = append === appendLarge ? fileFrom(490, 900) : fileFrom(490, 300, 400, 500);
    const faults = await withEachFault(beginningOf(file), async (target, label) => {
      try {
        await append(file, target);
        assert.deepEqual(target.bytes, file.bytes, label);
      } catch (error) {
        if (!(error instanceof DiskError)) throw error;
        assert(target.faultIsOver, label);
      }
      await assertSurvivesCrashes(file, target, label);
    });
    assert(faults > 50, `only ${faults} faults`);
  });
}

Deno.test("after a full disk the same run may be tried again, and the file is the same", async () => {
  const file = fileFrom(490, 300, 400, 500);
  let retried = 0;
  await withEachFault(beginningOf(file), async (target, label) => {
    const appender = appenderOn(target);
    for (const run of [runOf(file, 1, 2), runOf(file, 3)]) {
      for (let tries = 1;; tries++) {
        try {
          await appender.append(run, () => run.lastTid !== tidAt(3));
          target.tell(appender.end);
          break;
        } catch (error) {
          if (!(error instanceof DiskFullError) || tries > 1) return;
          assert.equal(appender.end, run.position, label);
          assert(target.size() >= run.position, label);
          retried++;
        }
      }
    }
    assert.deepEqual(target.bytes, file.bytes, label);
    await assertSurvivesCrashes(file, target, label);
  });
  assert(retried > 10, `only ${retried} runs were tried again`);
});

Deno.test("after a full disk a part may be tried again, and the file is the same", async () => {
  const file = fileFrom(490, 900);
  const { position, bytes } = runOf(file, 1);
  const from = TRANSACTION.size;
  const middle = bytes.length >> 1;
  let retried = 0;
  await withEachFault(beginningOf(file), async (target, label) => {
    const appender = appenderOn(target);
    const steps = [
      () => appender.beginLarge(),
      () => appender.writePart(bytes.subarray(from, middle), position + from),
      () => appender.beginLarge(),
      () => appender.writePart(bytes.subarray(middle), position + middle),
      () => appender.finishLarge(bytes.slice(0, from), position + bytes.length, () => false),
    ];
    for (const step of steps) {
      try {
        await step();
      } catch (error) {
        if (!(error instanceof DiskFullError)) return;
        retried++;
        await step();
      }
    }
    target.tell(appender.end);
    assert.deepEqual(target.bytes, file.bytes, label);
    await assertSurvivesCrashes(file, target, label);
  });
  assert(retried > 10, `only ${retried} steps were tried again`);
});

Deno.test("parts survive a disk that is full twice, also for the fence before them", async () => {
  const file = fileFrom(490, 900);
  const { position, bytes } = runOf(file, 1);
  const from = TRANSACTION.size;
  const cuts = [from, bytes.length >> 2, bytes.length >> 1, bytes.length];
  const fewest = 12;
  for (let first = 0; first < fewest; first++) {
    for (let second = first + 1; second < fewest; second++) {
      const target = new CrashFile(beginningOf(file));
      let writes = 0;
      const writeAt = target.writeAt.bind(target);
      target.writeAt = (part, at) => {
        const now = writes++;
        if (now === first || now === second) {
          writeAt(part.subarray(0, part.length >> 1), at);
          throw new DiskFullError("the disk is full");
        }
        writeAt(part, at);
      };
      const appender = appenderOn(target);
      const untilItWorks = async (step: () => void | Promise<void>) => {
        for (;;) {
          try {
            return await step();
          } catch (error) {
            if (!(error instanceof DiskFullError)) throw error;
          }
        }
      };
      try {
        for (let i = 1; i < cuts.length; i++) {
          await untilItWorks(() => appender.beginLarge());
          const part = bytes.subarray(cuts[i - 1], cuts[i]);
          await untilItWorks(() => appender.writePart(part, position + cuts[i - 1]!));
        }
        const header = bytes.slice(0, from);
        await untilItWorks(() => appender.finishLarge(header, position + bytes.length, () => false));
      } catch (error) {
        // Refused where the status is set: final, and nothing counts that is not whole.
        assert(error instanceof DiskError, String(error));
        assert.equal(appender.end, position);
        continue;
      }
      assert.deepEqual(target.bytes, file.bytes, `writes ${first} and ${second} refused`);
    }
  }
});

Deno.test("a run that could not be written leaves nothing behind a shorter one", async () => {
  const file = fileFrom(200, 100, 2000);
  const shorter = fileFrom(200, 100);
  // The write fails half way, and so does taking away what it wrote.
  const target = new CrashFile(beginningOf(file));
  const appender = appenderOn(target);
  const truncate = target.truncate.bind(target);
  const writeAt = target.writeAt.bind(target);
  target.writeAt = (bytes, position) => {
    writeAt(bytes.subarray(0, 1000), position);
    if (bytes.length > 1000) throw new DiskFullError("the disk is full");
  };
  target.truncate = () => {
    throw new DiskError("input/output error");
  };
  await assert.rejects(appender.append(runOf(file, 1, 2), () => false), DiskFullError);
  target.truncate = truncate;
  await appender.append(runOf(shorter, 1), () => false);
  assert.deepEqual(target.bytes, shorter.bytes);
});

Deno.test("a failed sync is final, whatever it failed of", async () => {
  const file = fileFrom(200, 10, 20);
  for (const error of ["io", "full"] as const) {
    for (const nth of [2, 5, 7]) {
      const target = new CrashFile(beginningOf(file), { nth, error, written: 0 });
      const appender = appenderOn(target);
      await assert.rejects(appender.append(runOf(file, 1), () => false), (failure) => {
        assert(failure instanceof DiskError && !(failure instanceof DiskFullError));
        return true;
      });
      const before = target.performed;
      assert.equal(before.filter((step) => step === "sync").length, [2, 5, 7].indexOf(nth));
      assert.equal(appender.end, 200);
      await assert.rejects(appender.append(runOf(file, 1), () => false), DiskError);
      await assert.rejects(appender.beginLarge(), DiskError);
      await appender.cut();
      assert.deepEqual(target.performed, before, "nothing may be done to the file any more");
    }
  }
});

Deno.test("a fence that finds no room does not spoil the run before it", async () => {
  const file = fileFrom(200, 10, 20);
  const target = new CrashFile(beginningOf(file), { nth: 7, error: "full", written: 5 });
  const appender = appenderOn(target);
  await appender.append(runOf(file, 1), () => true);
  assert(target.faultIsOver);
  assert.deepEqual(target.bytes, file.bytes.slice(0, file.transactions[1]!.end));
  await appender.append(runOf(file, 2), () => false);
  assert.deepEqual(target.bytes, file.bytes);
});

Deno.test("cutting takes away a fence and the parts of a transaction that never came whole", async () => {
  const file = fileFrom(200, 900, 10);
  const target = new CrashFile(beginningOf(file));
  const appender = appenderOn(target);
  await appender.beginLarge();
  appender.writePart(new Uint8Array(500), 200 + TRANSACTION.size);
  await appender.cut();
  assert.deepEqual(target.bytes, beginningOf(file));
  await appender.append(runOf(file, 1), () => true);
  await appender.cut();
  assert.deepEqual(target.bytes, file.bytes.slice(0, file.transactions[1]!.end));
  await appender.append(runOf(file, 2), () => false);
  assert.deepEqual(target.bytes, file.bytes);
});

Deno.test("a run that does not begin at the end is refused", async () => {
  const file = fileFrom(200, 10, 20);
  const appender = appenderOn(new CrashFile(beginningOf(file)));
  await assert.rejects(appender.append(runOf(file, 2), () => false), RangeError);
  assert.throws(() => appender.writePart(new Uint8Array(1), 210), RangeError);
});

Deno.test("without the fence a crash could leave a file that does not open", async () => {
  // What the fence is for: the run written straight away, its second sector kept and its first one lost.
  const file = fileFrom(490, 300, 400);
  const target = new CrashFile(beginningOf(file));
  const run = runOf(file, 1, 2);
  const voted = run.bytes.slice();
  voted[TRANSACTION.status] = 0x63;
  target.writeAt(voted, run.position);
  await target.sync();
  let refused = 0;
  for (const { bytes } of target.crashImages()) {
    await opened(bytes).catch((error) => {
      if (!(error instanceof CorruptError)) throw error;
      refused++;
    });
  }
  assert(refused > 0);
});
