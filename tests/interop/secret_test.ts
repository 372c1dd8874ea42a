/** A shared secret and real zc.zrs, which knows none: neither end of it is spoken with, and nothing is written. */
import assert from "node:assert/strict";
import { startPrimary, startSecondary } from "../kit/node.ts";
import { peerTest, ZodbWriter, ZrsPrimary, ZrsSecondary } from "../kit/peers.ts";
import { TempDirectory } from "../kit/temp.ts";
import { sizeOf } from "./processes.ts";

/** What an empty FileStorage consists of. */
const MAGIC_BYTES = 4;

const secret = { bytes: new TextEncoder().encode("the secret of all our nodes") };

async function makeSource(path: string): Promise<void> {
  await using writer = await ZodbWriter.start("zodb55", { path });
  await writer.commitMany({ count: 10, size: 100, objects: 3 });
  await writer.close();
}

peerTest("a secondary of zc.zrs logs why a source with a secret refuses it", ["zodb55"], async () => {
  await using directory = await TempDirectory.make();
  await makeSource(directory.join("Data.fs"));
  await using primary = await startPrimary({ path: directory.join("Data.fs"), secret });
  const copy = directory.join("copy.fs");
  await using python = await ZrsSecondary.start({ path: copy, replicateFrom: primary.address });
  await python.waitForLog(/refused: this source demands a secret, and zrs2 knows none/);
  await primary.log.waitFor(/dropped: .* zrs2 knows none/);
  await python.close();
  assert.equal(sizeOf(copy), MAGIC_BYTES);
});

peerTest("a secondary with a secret takes nothing from a primary of zc.zrs", ["zodb55"], async () => {
  await using directory = await TempDirectory.make();
  await makeSource(directory.join("Data.fs"));
  await using primary = await ZrsPrimary.start({
    path: directory.join("Data.fs"),
    replicateTo: "127.0.0.1:0",
  });
  const copy = directory.join("copy.fs");
  await using ours = await startSecondary({ path: copy, replicateFrom: primary.address, secret });
  // More often than it takes for going on with zrs2.
  const { message } = await ours.log.waitFor(/ended 6 connections in a row/);
  assert.match(message, /It has not said why/);
  await ours.log.waitFor(
    /before it has proved that it has our secret; it may have none, or speak nothing but zrs2/,
  );
  await ours.stop();
  assert.deepEqual(ours.log.matching(/going on with zrs2/), []);
  assert.equal(sizeOf(copy), MAGIC_BYTES);
});
