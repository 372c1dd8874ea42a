/** A complete new copy, and what another run has left in its place. */
import assert from "node:assert/strict";
import { UsageError } from "../../lib/errors.ts";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { COPY, ORIGINAL, Scene } from "./scene.ts";
import { history, syncFrom } from "./sync_kit.ts";

const PACKED = [...history(5, { status: "p" }).slice(2), ...history(8, { from: 5 })];
const SOUND = dataFs(PACKED).bytes;
const damaged = SOUND.slice();
damaged.fill(0, 300, 350);
const fileOf = (transactions: readonly TransactionDescription[]) => dataFs(transactions).bytes;

for (
  const [says, left] of [
    ["of another database", fileOf(history(5, { name: "other", status: "p" }))],
    ["with what the source has lost since", fileOf([...PACKED, ...history(12, { from: 8, name: "lost" })])],
    ["that parted from it", fileOf([...PACKED.slice(0, 4), ...history(8, { from: 6, name: "lost" })])],
    ["that is damaged", damaged],
  ] as const
) {
  Deno.test(`a new copy is not gone on with behind what another run has left ${says}`, async () => {
    const scene = new Scene();
    scene.disk.put(ORIGINAL, SOUND);
    scene.disk.put(COPY, dataFs(history(4)).bytes);
    scene.disk.put(`${COPY}.sync`, left);
    const { failure, report } = await syncFrom(scene, "file");
    assert.equal(failure, undefined);
    assert.notEqual(report?.newCopy, undefined);
    assertSameBytes(scene.disk.bytes(COPY), SOUND);
    assert.deepEqual(scene.disk.paths().filter((path) => path.includes(".sync")), []);
  });
}

for (const [suffix, keepOld] of [[".sync", false], [".old", true]] as const) {
  Deno.test(`a directory in the way of a new copy or an old one, ${suffix}, is told before anything is written`, async () => {
    const scene = new Scene();
    scene.disk.put(ORIGINAL, dataFs(history(8)).bytes);
    scene.disk.put(COPY, dataFs(history(4)).bytes);
    scene.disk.addDirectory(`${COPY}${suffix}`);
    const { failure } = await syncFrom(scene, "file", { keepOld });
    assert(failure instanceof UsageError, String(failure));
    assert.match(failure.message, /which would be removed, is no regular file$/);
    assertSameBytes(scene.disk.bytes(COPY), dataFs(history(4)).bytes);
  });
}
