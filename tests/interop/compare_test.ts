/** Copies of databases that real ZODB has written and packed, compared as files and with running primaries. */
import assert from "node:assert/strict";
import { verifyDigest } from "../../lib/cli/verify/verify_digest.ts";
import { verifyOther } from "../../lib/cli/verify/verify_other.ts";
import { ScriptedHost } from "../cli/scripted_host.ts";
import { peerTest, ZodbWriter, ZrsPrimary } from "../kit/peers.ts";
import { TempDirectory } from "../kit/temp.ts";
import { ZrsProcess } from "./processes.ts";

/** Commits, with undos and undone undos, so that there are back pointers and chains of them. */
async function commitTo(path: string, count: number): Promise<void> {
  await using writer = await ZodbWriter.start("zodb55", { path });
  for (let round = 0; round < 3; round++) {
    await writer.commitMany({ count, size: 300, objects: 3, keys: 10 });
    await writer.undo([1]);
    await writer.undo([1]);
  }
  await writer.close();
}

/** Packs all but what is committed afterwards. */
async function packAt(path: string): Promise<void> {
  await using writer = await ZodbWriter.start("zodb55", { path });
  await writer.pack();
  await writer.commitMany({ count: 5, size: 300, objects: 3, keys: 10 });
  await writer.undo([1]);
  await writer.close();
}

async function compare(copy: string, other: string) {
  const host = new ScriptedHost();
  const result = await verifyOther({ dataFs: copy, other }, host);
  return { ...result, out: host.written.out };
}

/** Changes a byte in the middle of the data of some record in the last tenth of the file. */
async function spoil(path: string): Promise<void> {
  using file = await Deno.open(path, { read: true, write: true });
  const { size } = await file.stat();
  const bytes = new Uint8Array(size);
  await file.read(bytes);
  const text = new TextDecoder("latin1").decode(bytes);
  const at = text.lastIndexOf("PersistentMapping", size - 2000);
  assert(at > 0);
  await file.seek(at, Deno.SeekMode.Start);
  await file.write(new TextEncoder().encode("p"));
}

peerTest(
  "a pack by ZODB at either end is no difference, as a file and over the wire",
  ["zodb55"],
  async () => {
    await using directory = await TempDirectory.make();
    const [source, copy] = [directory.join("source.fs"), directory.join("copy.fs")];
    await commitTo(source, 40);
    await Deno.copyFile(source, copy);
    await packAt(source);

    const asFiles = await compare(copy, source);
    assert.equal(asFiles.differences, 0, asFiles.out);
    assert(asFiles.hasNewer && asFiles.packedThere > 10, asFiles.out);
    {
      await using primary = await ZrsProcess.start(directory, "primary", source, "--replicate-to", "0");
      const { differences, same, packedThere, out } = await compare(copy, `zrs://${primary.address}`);
      assert.deepEqual([differences, same, packedThere], [0, asFiles.same, asFiles.packedThere], out);
      await spoil(copy);
      assert.equal((await compare(copy, source)).differences, 1);
      const spoilt = await compare(copy, `zrs://${primary.address}`);
      assert.equal(spoilt.differences, 1, spoilt.out);
      assert.equal(await primary.stop(), 0);
    }

    // The other way round the copy is the one that was packed, and has nothing newer.
    const original = directory.join("original.fs");
    await commitTo(original, 40);
    await Deno.copyFile(original, copy);
    await using writer = await ZodbWriter.start("zodb55", { path: copy });
    await writer.pack();
    await writer.close();
    const packedCopy = await compare(copy, original);
    assert.equal(packedCopy.differences, 0, packedCopy.out);
    assert(packedCopy.packedHere > 10, packedCopy.out);
    await using primary = await ZrsProcess.start(directory, "primary", original, "--replicate-to", "0");
    const overWire = await compare(copy, `zrs://${primary.address}`);
    assert.deepEqual([overWire.differences, overWire.packedHere], [0, packedCopy.packedHere], overWire.out);
    assert.equal(await primary.stop(), 0);
  },
);

peerTest("behind a pack by ZODB the digest is that of a copy that was never packed", ["zodb55"], async () => {
  await using directory = await TempDirectory.make();
  const [source, copy] = [directory.join("source.fs"), directory.join("copy.fs")];
  await commitTo(source, 10);
  await packAt(source);
  await Deno.copyFile(source, copy);
  await packAt(source);
  const digest = (dataFs: string, options = {}) => verifyDigest({ dataFs, ...options }, new ScriptedHost());
  const whole = await digest(source);
  assert(whole.isPacked);
  const to = (await digest(copy)).lastTid;
  // Nothing behind the last pack is in the copy: digests up to its end tell the pack.
  assert(whole.unpackedSince > to);
  assert.notEqual((await digest(source, { to: whole.lastTid })).digest, (await digest(copy)).digest);
  await Deno.copyFile(source, copy);
  const since = whole.unpackedSince;
  assert.equal((await digest(copy, { since })).digest, (await digest(source, { since })).digest);
});

peerTest("a primary of zc.zrs is compared by all that it sends", ["zodb55"], async () => {
  await using directory = await TempDirectory.make();
  const [source, copy] = [directory.join("source.fs"), directory.join("copy.fs")];
  await commitTo(source, 30);
  await Deno.copyFile(source, copy);
  await packAt(source);
  {
    await using python = await ZrsPrimary.start({ path: source, replicateTo: "127.0.0.1:0" });
    const asFiles = await compare(copy, source);
    const { out, ...found } = await compare(copy, `zrs://${python.address}`);
    // It is left as soon as it has sent what the copy has: whether more would come is not known.
    assert.deepEqual({ ...found, out: "" }, { ...asFiles, hasNewer: false, out: "" }, out);
    await spoil(copy);
    const spoilt = await compare(copy, `zrs://${python.address}`);
    assert.equal(spoilt.differences, 1, spoilt.out);
    await python.close();
  }
  // Of a source that has less it is not known where it ends, but by its silence.
  await commitTo(source, 2);
  await Deno.copyFile(source, copy);
  await commitTo(copy, 2);
  await using python = await ZrsPrimary.start({ path: source, replicateTo: "127.0.0.1:0" });
  const ahead = await compare(copy, `zrs://${python.address}`);
  assert.equal(ahead.differences, 1);
  assert.match(ahead.out, /only .*copy\.fs has it and what follows/);
  await python.close();
});
