/** What a secondary has by the native stream is whole, and what it acknowledges is on its disk. */
import assert from "node:assert/strict";
import { othersHaveRun } from "../kit/manual_clock.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import { control, framesOf, NativeWriter, welcome } from "../kit/native_wire.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { join } from "../kit/zrs_wire.ts";
import { bytesOf, FILE, LAST, RESTORED, TID, TRANSACTIONS, welcomed } from "./native_kit.ts";
import { COPY, Scene } from "./scene.ts";

/** All of the history in one run. */
const RUN = { bytes: bytesOf(FILE, 0, 3), tid: LAST, count: 4 };

/** A disk whose syncs of the copy take until the test lets them go. */
class SlowDisk extends MemoryDisk {
  isHeld = false;
  readonly #held: (() => void)[] = [];

  override async sync(path: string): Promise<void> {
    if (this.isHeld && path === COPY) await new Promise<void>((resolve) => this.#held.push(resolve));
    await super.sync(path);
  }

  /** How many syncs are under way. */
  get heldCount(): number {
    return this.#held.length;
  }

  letOneGo(): void {
    this.#held.shift()!();
  }
}

Deno.test("nothing is acknowledged before the disk has made it durable", async () => {
  const disk = new SlowDisk();
  const scene = new Scene({ disk });
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({ protocol: "native" });
  const { wire } = await welcomed(primary);
  disk.isHeld = true;
  await wire.send(wire.writer.run(RUN));
  const { connection } = wire as unknown as { connection: { unread: number } };
  let syncs = 0;
  for (; secondary.lastTid !== LAST; syncs++) {
    while (disk.heldCount === 0) await othersHaveRun();
    for (let i = 0; i < 20; i++) await othersHaveRun(); // time enough for one that would not wait
    assert.equal(connection.unread, 0, "an acknowledgement must not come before the sync");
    disk.letOneGo();
    for (let i = 0; i < 20; i++) await othersHaveRun();
  }
  assert(syncs >= 2);
  assert.equal((await wire.receiveDurable(LAST)).checksum, wire.writer.sum.value);
  disk.isHeld = false;
});

Deno.test("a sync that fails is never acknowledged", async () => {
  const scene = new Scene();
  using primary = await scene.listen();
  await using secondary = await scene.startSecondary({ protocol: "native" });
  const { wire } = await welcomed(primary);
  scene.disk.fail({ operation: "sync", path: COPY, nth: 2, lasting: true });
  await wire.send(wire.writer.run(RUN));
  assert.match(`${await secondary.failure()}`, /input\/output error/);
  for (let received; (received = await wire.receiveFrame()) !== null;) assert.notEqual(received.kind, "A");
});

/** Everything that a source sends from the welcome on, in both forms. */
function exchange(): { stream: Uint8Array; wholeAt: { at: number; end: number }[]; file: Uint8Array } {
  const writer = new NativeWriter();
  const parts = [
    control(welcome()),
    writer.run({ bytes: bytesOf(RESTORED, 0), tid: TID, count: 1, frameBytes: 40 }),
    writer.transaction(TRANSACTIONS[1]!),
    writer.run({ bytes: bytesOf(RESTORED, 2), tid: LAST, count: 1 }),
  ];
  const wholeAt = [];
  let at = parts[0]!.length;
  for (const [i, part] of parts.slice(1).entries()) {
    at += part.length;
    wholeAt.push({ at, end: RESTORED.transactions[i]!.end });
  }
  return { stream: join(...parts), wholeAt, file: RESTORED.bytes };
}

Deno.test("a link cut at any byte leaves whole transactions only, and the next connection completes", async () => {
  const { stream, wholeAt, file } = exchange();
  assert.equal(framesOf(stream).length > 10, true);
  for (let cut = 0; cut <= stream.length; cut++) {
    const scene = new Scene();
    using primary = await scene.listen();
    await using secondary = await scene.startSecondary({ protocol: "native" });
    const wire = await primary.acceptNative();
    await wire.receiveMessage("hello");
    await wire.send(stream.subarray(0, cut));
    wire.close();
    const delayMs = await scene.clock.waitForTimer(50, 100);
    const end = wholeAt.findLast(({ at }) => at <= cut)?.end ?? 4;
    assertSameBytes(scene.disk.bytes(COPY), file.subarray(0, end), `cut at ${cut}`);
    scene.clock.advance(delayMs);

    const again = await welcomed(primary);
    assert.equal(again.hello.end, end);
    if (end < file.length) {
      const count = RESTORED.transactions.filter(({ position }) => position >= end).length;
      await again.wire.send(again.wire.writer.run({ bytes: file.subarray(end), tid: LAST, count }));
      await secondary.waitForTid(LAST);
    }
    assertSameBytes(scene.disk.bytes(COPY), file, `cut at ${cut}`);
  }
});
