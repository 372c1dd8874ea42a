/**
 * Blobs of real ZODB, from and to real ends: records and files arrive together; or the records stop a stream, or pass
 * without the files where that was asked for.
 */
import assert from "node:assert/strict";
import { ANY_PORT, startPrimary, startSecondary } from "../kit/node.ts";
import { type LogEnd, OpenCheck, peerTest, ZodbWriter, ZrsSecondary } from "../kit/peers.ts";
import { assertSameBlobs, blobFilesOf } from "../kit/blob_files.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { TempDirectory } from "../kit/temp.ts";
import { walk } from "../kit/walk.ts";
import { assertSameFile } from "./sameness.ts";

/** A database with blobs that a real ZODB writes, and room for copies of it. */
class Scene implements AsyncDisposable {
  readonly #directory: TempDirectory;
  readonly writer: ZodbWriter;
  readonly #owned: AsyncDisposableStack;

  private constructor(directory: TempDirectory, writer: ZodbWriter, owned: AsyncDisposableStack) {
    this.#directory = directory;
    this.writer = writer;
    this.#owned = owned;
  }

  /** @param layout of the blob directories of the source and of `copy` */
  static async start(
    { environment = "zodb55", replicates = false, layout }: {
      environment?: "zodb55" | "zodb6";
      replicates?: boolean;
      layout?: string;
    } = {},
  ): Promise<Scene> {
    await using owned = new AsyncDisposableStack();
    const directory = owned.use(await TempDirectory.make());
    for (const name of layout === undefined ? [] : ["source", "copy"]) {
      await Deno.mkdir(directory.join(name));
      await Deno.writeTextFile(directory.join(name, ".layout"), layout!);
    }
    const writer = owned.use(
      await ZodbWriter.start(environment, {
        path: directory.join("source.fs"),
        blobDir: directory.join("source"),
        ...(replicates && { replicateTo: "127.0.0.1:0" }),
      }),
    );
    return new Scene(directory, writer, owned.move());
  }

  /** The database of this name. */
  file(name: string): string {
    return this.#directory.join(`${name}.fs`);
  }

  /** Its blobs. */
  blobs(name: string): string {
    return this.#directory.join(name);
  }

  /** The options of a node that has both. */
  with(name: string) {
    return { path: this.file(name), blobDir: this.blobs(name), blobs: "replicate" } as const;
  }

  /** The records of the copy are those of the source. */
  async assertSameRecords(copy: string): Promise<void> {
    await assertSameFile(this.file(copy), this.file("source"));
  }

  /** The copy is the source up to there. */
  async assertEndsAt(copy: string, end: LogEnd): Promise<void> {
    const source = await Deno.readFile(this.file("source"));
    assertSameBytes(await Deno.readFile(this.file(copy)), source.slice(0, end.size));
  }

  /** Records and blobs of the copy are those of the source. */
  async assertSame(copy: string): Promise<void> {
    await this.assertSameRecords(copy);
    await assertSameBlobs(this.blobs(copy), this.blobs("source"));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owned.disposeAsync();
  }
}

/** Commits, then blobs of all kinds of sizes and an undo of one, then a commit. @returns the ends before and after */
async function writeBlobs(writer: ZodbWriter): Promise<{ before: LogEnd; after: LogEnd }> {
  const before = await writer.commit([["a", 100]]);
  await writer.commitBlobs([["empty", 0], ["small", 10], ["block", 65_536], ["big", 1_000_000]]);
  await writer.commitBlobs([["small", 20]]);
  await writer.undo([1]);
  return { before, after: await writer.commit([["a", 200]]) };
}

peerTest(
  "the first blob of a zc.zrs primary ends the stream, and everything before is kept",
  ["zodb55"],
  async () => {
    await using scene = await Scene.start({ replicates: true });
    const { writer } = scene;
    await using secondary = await startSecondary({ path: scene.file("copy"), replicateFrom: writer.address });
    const { before } = await writeBlobs(writer);
    const { message } = await secondary.log.waitFor(/it is a blob, and there is no directory for blobs/);
    assert.match(message, /give --blob-dir to replicate blobs, or --blobs none/);
    await secondary.log.waitFor(/3 connections in a row .* What follows there cannot be taken/);
    await secondary.stop();
    await scene.assertEndsAt("copy", before);
  },
);

peerTest("with --blobs none our copy of a zc.zrs primary has all records", ["zodb55"], async () => {
  await using scene = await Scene.start({ replicates: true });
  const { writer } = scene;
  await using secondary = await startSecondary({
    path: scene.file("copy"),
    replicateFrom: writer.address,
    blobs: "none",
  });
  const { after } = await writeBlobs(writer);
  await secondary.waitForTid(after.tid);
  await scene.assertSameRecords("copy");
});

peerTest(
  "by zrs2 our primary ends the stream at the first blob, and says why to copies of both kinds",
  ["zodb55"],
  async () => {
    await using scene = await Scene.start();
    const { writer } = scene;
    const { before } = await writeBlobs(writer);
    await using primary = await startPrimary({ path: scene.file("source") });
    await using ours = await startSecondary({
      path: scene.file("ours"),
      replicateFrom: primary.address,
      protocol: "zrs2",
    });
    await using python = await ZrsSecondary.start({
      path: scene.file("python"),
      replicateFrom: primary.address,
    });
    const reason =
      /Cannot send object .* it is a blob, .* start the source with --blob-dir, or both ends with --blobs none/;
    assert.match((await ours.log.waitFor(/cannot go on behind/)).message, reason);
    assert.match((await python.waitForLog(/refused: /)).message, reason);
    await primary.log.waitFor(reason);
    assert.equal((await python.status()).tid, before.tid);
    await ours.stop();
    await scene.assertEndsAt("ours", before);
  },
);

peerTest(
  "with --blobs none our primary sends all records to copies of both kinds",
  ["zodb55", "zodb6"],
  async () => {
    await using scene = await Scene.start({ environment: "zodb6" });
    const { writer } = scene;
    await using primary = await startPrimary({ path: scene.file("source"), blobs: "none" });
    const options = { replicateFrom: primary.address, blobs: "none" } as const;
    await using ours = await startSecondary({ path: scene.file("ours"), ...options });
    await using python = await ZrsSecondary.start({
      path: scene.file("python"),
      replicateFrom: primary.address,
    });
    const { after } = await writeBlobs(writer);
    await ours.waitForTid(after.tid);
    await python.waitFor(after.tid);
    await python.close();
    await scene.assertSameRecords("ours");
    await scene.assertSameRecords("python");
    await using zodb = await OpenCheck.start("zodb6");
    assert.equal((await zodb.check(scene.file("ours"))).fstest, null);
  },
);

for (const layout of ["bushy", "lawn"]) {
  peerTest(
    `a copy of a zc.zrs primary has its blobs, too, and ZODB loads them: ${layout}`,
    ["zodb55"],
    async () => {
      await using scene = await Scene.start({ replicates: true, layout });
      const { writer } = scene;
      await using secondary = await startSecondary({ ...scene.with("copy"), replicateFrom: writer.address });
      const { after } = await writeBlobs(writer);
      await secondary.waitForTid(after.tid);
      await secondary.stop();
      await scene.assertSame("copy");
      assert.equal((await blobFilesOf(scene.blobs("copy"))).size, 6);
      await using zodb = await OpenCheck.start("zodb55");
      const { tid } = await zodb.check(scene.file("copy"), { readOnly: false, blobDir: scene.blobs("copy") });
      assert.equal(tid, after.tid);
    },
  );
}

peerTest("a zc.zrs secondary gets our blobs, the empty one as well", ["zodb55"], async () => {
  await using scene = await Scene.start();
  const { writer } = scene;
  await using primary = await startPrimary(scene.with("source"));
  await using python = await ZrsSecondary.start({
    path: scene.file("python"),
    blobDir: scene.blobs("python"),
    replicateFrom: primary.address,
  });
  const { after } = await writeBlobs(writer);
  await python.waitFor(after.tid);
  await python.close();
  await scene.assertSame("python");
  assert([...(await blobFilesOf(scene.blobs("python"))).values()].some(({ size }) => size === 0));
});

peerTest(
  "a zc.zrs secondary without a blob directory is refused by a source with blobs",
  ["zodb55"],
  async () => {
    await using scene = await Scene.start();
    const { writer } = scene;
    await using primary = await startPrimary(scene.with("source"));
    await using python = await ZrsSecondary.start({
      path: scene.file("python"),
      replicateFrom: primary.address,
    });
    await writer.commit([["a", 100]]);
    const reason = /zrs2\.0 cannot carry: give the secondary a blob directory/;
    assert.match((await python.waitForLog(/refused: /)).message, reason);
    await primary.log.waitFor(reason);
    assert.equal((await python.status()).tid, "0".repeat(16));
  },
);

for (const protocol of ["native", "zrs2"] as const) {
  peerTest(
    `blobs travel along a chain of ours, to a zc.zrs secondary at its end: ${protocol}`,
    ["zodb55"],
    async () => {
      await using scene = await Scene.start();
      const { writer } = scene;
      await using primary = await startPrimary(scene.with("source"));
      await using middle = await startSecondary({
        ...scene.with("middle"),
        replicateFrom: primary.address,
        replicateTo: ANY_PORT,
        protocol,
      });
      await using python = await ZrsSecondary.start({
        path: scene.file("python"),
        blobDir: scene.blobs("python"),
        replicateFrom: middle.address,
      });
      const { after } = await writeBlobs(writer);
      await middle.waitForTid(after.tid);
      await python.waitFor(after.tid);
      await python.close();
      for (const copy of ["middle", "python"]) await scene.assertSame(copy);
    },
  );
}

peerTest(
  "a packed source's blobs reach a new copy record by record and as they lie",
  ["zodb55"],
  async () => {
    await using scene = await Scene.start();
    const { writer } = scene;
    await using primary = await startPrimary(scene.with("source"));
    const options = { replicateFrom: primary.address, protocol: "native" } as const;
    // Its file lies otherwise once the source has been packed, so what follows comes record by record.
    await using old = await startSecondary({ ...scene.with("old"), ...options });
    const { after } = await writeBlobs(writer);
    await old.waitForTid(after.tid);
    await writer.pack();
    const { tid } = await writer.commitBlobs([["small", 30], ["new", 200_000]]);
    await old.waitForTid(tid);
    await using fresh = await startSecondary({ ...scene.with("fresh"), ...options });
    await fresh.waitForTid(tid);
    await scene.assertSame("fresh");
    const [kept, all] = [await blobFilesOf(scene.blobs("source")), await blobFilesOf(scene.blobs("old"))];
    assert(all.size > kept.size);
    for (const [name, { size }] of kept) assert.equal(all.get(name)?.size, size, name);
  },
);

peerTest(
  "a copy that shares the source's directory has all records, writes no blob, and ZODB loads them",
  ["zodb55"],
  async () => {
    await using scene = await Scene.start();
    const { writer } = scene;
    const { after } = await writeBlobs(writer);
    const stamps = async () =>
      await Promise.all((await walk(scene.blobs("source"))).map(async (name) => {
        const { ino, ctime, mode } = await Deno.stat(`${scene.blobs("source")}/${name}`);
        return { name, ino, ctime, mode };
      }));
    const before = await stamps();
    const blobs = { blobs: "shared", blobDir: scene.blobs("source") } as const;
    await using primary = await startPrimary({ path: scene.file("source"), ...blobs });
    await using ours = await startSecondary({
      path: scene.file("copy"),
      replicateFrom: primary.address,
      ...blobs,
    });
    await ours.waitForTid(after.tid);
    assert.equal(ours.node.status().blobs, "shared");
    await ours.stop();
    await scene.assertSameRecords("copy");
    assert.deepEqual(await stamps(), before);
    await using zodb = await OpenCheck.start("zodb55");
    const { tid } = await zodb.check(scene.file("copy"), { readOnly: false, blobDir: scene.blobs("source") });
    assert.equal(tid, after.tid);
  },
);
