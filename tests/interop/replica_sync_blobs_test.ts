/** `zrs replica-sync` with the blobs of real ZODB, on each way that leads to a source. */
import assert from "node:assert/strict";
import { assertSameBlobs, blobFilesOf } from "../kit/blob_files.ts";
import { type LogEnd, OpenCheck, peerTest, ZodbWriter } from "../kit/peers.ts";
import { NO_SSHD, Sshd, sshTest } from "../kit/sshd.ts";
import { endOf, runZrs, startZrs } from "../kit/process.ts";
import { TempDirectory } from "../kit/temp.ts";
import { sizeOf, sync, syncWell, waitForChanges, ZrsProcess } from "./processes.ts";
import { assertSameFile } from "./sameness.ts";
import { installZrs } from "./ssh_scene.ts";

const WAYS = ["file", "node", "zrs", "tools", "push"] as const;
/** From a file of this machine, a node, or over ssh with zrs there or without; or over ssh to another machine. */
type Way = typeof WAYS[number];
/** Whoever names it to a shell must quote it. */
const BLOBS = "the source's $(blobs)";

/** A test that needs ZODB, and, on some ways, an ssh server. */
function wayTest(by: Way, name: string, environment: "zodb55" | "zodb6", body: () => Promise<void>): void {
  const isOverSsh = by !== "file" && by !== "node";
  if (isOverSsh && NO_SSHD !== undefined) return sshTest(name, body);
  peerTest(name, [environment], body);
}

/** A source with blobs, and where its copy is to be. */
class Place implements AsyncDisposable {
  readonly source: string;
  readonly sourceBlobs: string;
  readonly copy: string;
  readonly copyBlobs: string;
  #primary: ZrsProcess | undefined;
  #sshd: Sshd | undefined;

  private constructor(readonly directory: TempDirectory, readonly writer: ZodbWriter) {
    const path = (name: string) => directory.join(name);
    [this.source, this.sourceBlobs] = [path("Data.fs"), path(BLOBS)];
    [this.copy, this.copyBlobs] = [path("copy.fs"), path("the copy's blobs")];
  }

  static async make(environment: "zodb55" | "zodb6" = "zodb55"): Promise<Place> {
    const directory = await TempDirectory.make();
    const [path, blobDir] = [directory.join("Data.fs"), directory.join(BLOBS)];
    return new Place(directory, await ZodbWriter.start(environment, { path, blobDir }));
  }

  /** What names the source and the copy, on one of the ways between them. */
  async args(by: Way): Promise<string[]> {
    const { source, copy } = this;
    const [from, to] = [["--source-blob-dir", this.sourceBlobs], ["--blob-dir", this.copyBlobs]] as const;
    if (by === "file") return [source, copy, ...from, ...to];
    if (by === "node") {
      const options = ["primary", source, "--replicate-to", "0", "--blob-dir", this.sourceBlobs] as const;
      this.#primary ??= await ZrsProcess.start(this.directory, ...options);
      return [`zrs://${this.#primary.address}`, copy, ...to];
    }
    this.#sshd ??= await Sshd.start(by === "tools" ? {} : { path: installZrs(this.directory) });
    const { ssh } = this.#sshd;
    const ends = by === "push" ? ["--push", source, this.#sshd.at(copy)] : [this.#sshd.at(source), copy];
    return [...ends, ...from, ...to, "--ssh", ssh];
  }

  async assertSame(): Promise<void> {
    await assertSameFile(this.copy, this.source);
    await assertSameBlobs(this.copyBlobs, this.sourceBlobs);
  }

  /** As `zrs verify` sees both: the same, and then one that is not. @param args as those of `replica-sync` */
  async assertVerified([source, copy]: readonly string[]): Promise<void> {
    const other = source === this.source ? ["--other-blob-dir", this.sourceBlobs] : [];
    const verify = () => runZrs("verify", copy!, source!, "--blob-dir", this.copyBlobs, ...other);
    const good = await verify();
    assert.deepEqual([good.code, good.err], [0, ""], good.out);
    assert.match(good.out, /^9 blobs the same\nNo differences$/m);
    const [path, bytes] = (await Array.fromAsync(walkBlobs(this.copyBlobs))).find(([, size]) => size === 30)!;
    const content = Deno.readFileSync(path);
    Deno.chmodSync(path, 0o644);
    Deno.writeFileSync(path, content.map((byte, at) => at === 29 ? byte ^ 1 : byte));
    const bad = await verify();
    assert.equal(bad.code, 1, bad.err);
    assert.match(
      bad.out,
      new RegExp(`^DIFFERENT transaction .*: the ${bytes} bytes of blob [0-9a-f]{16} differ`),
    );
    Deno.writeFileSync(path, content);
    Deno.chmodSync(path, 0o444);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#primary?.[Symbol.asyncDispose]();
    await this.#sshd?.[Symbol.asyncDispose]();
    await this.writer[Symbol.asyncDispose]();
    await this.directory[Symbol.asyncDispose]();
  }
}

/** Commits blobs of all kinds of sizes, a revision of one, and the undo of that. */
async function writeBlobs(writer: ZodbWriter): Promise<LogEnd> {
  await writer.commit([["a", 100]]);
  await writer.commitBlobs([["empty", 0], ["small", 10], ["block", 65_536], ["big", 1_000_000]]);
  await writer.commitBlobs([["small", 20]]);
  await writer.undo([1]);
  return await writer.commit([["a", 200]]);
}

for (const by of WAYS) {
  for (const environment of ["zodb55", "zodb6"] as const) {
    wayTest(by, `by ${by} a copy gets the blobs of ${environment}, and later ones`, environment, async () => {
      await using place = await Place.make(environment);
      const { writer } = place;
      const args = await place.args(by);
      await writeBlobs(writer);
      const first = await syncWell(...args);
      assert.deepEqual(first.blobs, { copied: 6, bytes: 1_065_576, missing: 0 });
      await place.assertSame();
      await writer.commitBlobs([["small", 30], ["new", 200_000]]);
      const { tid } = await writer.undo([1]);
      const { code, out, err } = await sync(...args);
      assert.deepEqual([code, err], [0, ""]);
      assert.match(out, /2 transactions, .*, and 3 blobs, /);
      await place.assertSame();
      assert.deepEqual((await syncWell(...args)).blobs, { copied: 0, bytes: 0, missing: 0 });
      if (by === "file" || by === "node") await place.assertVerified(args);
      await using zodb = await OpenCheck.start(environment);
      const opened = await zodb.check(place.copy, { readOnly: false, blobDir: place.copyBlobs });
      assert.equal(opened.tid, tid);
    });
  }

  wayTest(
    by,
    `by ${by} a copy of a packed source goes on, or is made anew, with its blobs`,
    "zodb55",
    async () => {
      await using place = await Place.make();
      const { writer } = place;
      const args = await place.args(by);
      const { tid } = await writeBlobs(writer);
      await writer.commitBlobs([["small", 25]]);
      await syncWell(...args);
      const all = await blobFilesOf(place.copyBlobs);
      await writer.commitBlobs([["small", 30], ["new", 200_000]]);
      await writer.pack({ tid });
      if (by !== "tools") {
        const appended = await syncWell(...args);
        assert.deepEqual([appended.newCopy, appended.blobs.copied], [false, 2]);
      }
      await writer.commitBlobs([["small", 31]]);
      await writer.pack();
      const { code, out, err } = await sync(...args, "--json", "--keep-old");
      assert.equal(code, 0, err);
      assert.match(err, /making a complete new copy/);
      await assertSameFile(place.copy, place.source);
      const [wanted, found] = [await blobFilesOf(place.sourceBlobs), await blobFilesOf(place.copyBlobs)];
      for (const [name, file] of wanted) assert.deepEqual(found.get(name), file, name);
      // What the copy has is not copied again, but where there is one conversation only.
      const copied = by === "push" ? wanted.size : by === "tools" ? 2 : 1;
      assert.equal(JSON.parse(out).blobs.copied, copied);
      // What the kept file needs is there still.
      for (const [name, file] of all) assert.deepEqual(found.get(name), file, name);
      const verify = startZrs(["verify", `${place.copy}.old`, "--blob-dir", place.copyBlobs, "--json"]);
      const kept = await endOf(verify);
      assert.doesNotMatch(kept.out, /blob-missing/);
    },
  );
}

peerTest("killed again and again, it completes the copy with its blobs in the end", ["zodb55"], async () => {
  await using place = await Place.make();
  const { writer, copy, copyBlobs } = place;
  for (let at = 0; at < 4; at++) await writer.commitBlobs([[`big ${at}`, 3_000_000], [`small ${at}`, 50]]);
  const args = await place.args("node");
  Deno.mkdirSync(`${copyBlobs}/tmp`, { recursive: true });
  Deno.writeTextFileSync(`${copyBlobs}/.layout`, "bushy");
  let kills = 0;
  for (let reached = 0;;) {
    await using process = startZrs(["replica-sync", ...args, "--bwlimit", "10M"]);
    const ended = process.exited.then(() => {});
    // Killed as soon as it has got a little further, in the middle of a blob mostly.
    const hasMore = () => blobBytes(copyBlobs) > reached + 2_000_000;
    await waitForChanges("blobs to come", `${copyBlobs}/tmp`, hasMore, ended);
    process.kill("SIGKILL");
    if ((await process.exited).code === 0) break;
    kills++;
    reached = blobBytes(copyBlobs);
    if (sizeOf(copy) === 0) continue;
    const { out } = await runZrs("verify", copy, "--blob-dir", copyBlobs, "--json");
    assert.match(out, /"blobs":/);
    assert.doesNotMatch(out, /blob-missing/);
  }
  assert(kills >= 2, `killed ${kills} times`);
  await place.assertSame();
});

/** Bytes of all that has come of blobs. */
function blobBytes(directory: string): number {
  let bytes = 0;
  for (const { name, isDirectory } of Deno.readDirSync(directory)) {
    const path = `${directory}/${name}`;
    bytes += isDirectory ? blobBytes(path) : sizeOf(path);
  }
  return bytes;
}

peerTest(
  "a file that is missing at the source stops the copy before it, or is marked",
  ["zodb55"],
  async () => {
    await using place = await Place.make();
    const { writer } = place;
    await writer.commitBlobs([["one", 100]]);
    const { size } = await writer.commit([["a", 1]]);
    await writer.commitBlobs([["two", 200]]);
    const { tid } = await writer.commit([["a", 2]]);
    const [gone] = [...Deno.readDirSync(place.sourceBlobs)].length > 0
      ? (await Array.fromAsync(walkBlobs(place.sourceBlobs))).filter(([, bytes]) => bytes === 200)
      : [];
    Deno.renameSync(gone![0], `${place.directory.path}/kept`);
    const args = await place.args("file");
    const failed = await sync(...args);
    assert.deepEqual([failed.code, failed.out], [4, ""]);
    assert.match(failed.err, /its file is missing/);
    assert.equal(Deno.statSync(place.copy).size, size);
    const marked = await sync(...args, "--missing-blobs", "mark");
    assert.equal(marked.code, 0, marked.err);
    assert.match(marked.out, /1 blob missing, for the source had no files: see .*copy\.fs\.missing-blobs/);
    await assertSameFile(place.copy, place.source);
    const again = await syncWell(...args);
    assert.deepEqual([again.after.tid, again.blobs.missing], [tid, 1]);
  },
);

async function* walkBlobs(directory: string): AsyncGenerator<[string, number]> {
  for await (const { name, isDirectory } of Deno.readDir(directory)) {
    const path = `${directory}/${name}`;
    if (isDirectory) yield* walkBlobs(path);
    else if (name.endsWith(".blob")) yield [path, Deno.statSync(path).size];
  }
}

peerTest("directories that cannot be meant are refused, and nothing is written", ["zodb55"], async () => {
  await using place = await Place.make();
  await writeBlobs(place.writer);
  const { source, sourceBlobs, copy, copyBlobs } = place;
  const path = (name: string) => place.directory.join(name);
  Deno.mkdirSync(path("odd"));
  Deno.writeTextFileSync(path("odd/.layout"), "heap");
  Deno.mkdirSync(path("home"));
  Deno.writeTextFileSync(path("home/letter.txt"), "Dear");
  const from = ["--source-blob-dir", sourceBlobs];
  const table: readonly (readonly [args: string[], code: number, words: RegExp])[] = [
    [["--blob-dir", copyBlobs], 2, /which directory they are in is not said/],
    [["--blob-dir", sourceBlobs, ...from], 2, /both are the same directory.*--blobs shared/],
    [["--blob-dir", path("odd"), ...from], 2, /layout must be bushy or lawn/],
    [["--blob-dir", path("home"), ...from], 2, /something else than blobs: letter\.txt/],
    [["--blob-dir", path("none/blobs"), ...from], 2, /none/],
    [["--blob-dir", copyBlobs, "--source-blob-dir", path("no")], 2, /there is no such directory/],
    [["--blobs", "none", ...from], 2, /without --blob-dir/],
    [["--missing-blobs", "mark"], 2, /none are replicated/],
    [["--blobs", "shared"], 2, /without --blob-dir/],
  ];
  for (const [args, code, words] of table) {
    const ended = await sync(source, copy, ...args);
    assert.deepEqual([ended.code, ended.out], [code, ""], `${args}: ${ended.err}`);
    assert.match(ended.err, words);
    if (code === 2) assert.throws(() => Deno.statSync(copy), Deno.errors.NotFound, args.join(" "));
  }
  const unsaid = await sync(source, copy);
  assert.equal(unsaid.code, 2, unsaid.err);
  assert.match(unsaid.err, /it has blobs, .* give --blob-dir, and --source-blob-dir .* --blobs none/);
  const node = await sync("zrs://127.0.0.1:1", copy, "--blob-dir", copyBlobs, ...from);
  assert.match(node.err, /a running node knows its own/);
});

peerTest(
  "a directory that both share is looked at only, and records alone come on demand",
  ["zodb55"],
  async () => {
    await using place = await Place.make();
    await writeBlobs(place.writer);
    const { source, sourceBlobs, copy } = place;
    const before = await blobFilesOf(sourceBlobs);
    const shared = await syncWell(source, copy, "--blobs", "shared", "--blob-dir", sourceBlobs);
    assert.equal(shared.blobs, null);
    await assertSameFile(copy, source);
    assert.deepEqual(await blobFilesOf(sourceBlobs), before);
    const other = place.directory.join("other.fs");
    await syncWell(source, other, "--blobs", "none");
    await assertSameFile(other, source);
  },
);

peerTest("a primary of zc.zrs gives a copy its blobs, too", ["zodb55"], async () => {
  await using directory = await TempDirectory.make();
  const path = (name: string) => directory.join(name);
  await using writer = await ZodbWriter.start("zodb55", {
    path: path("Data.fs"),
    blobDir: path("blobs"),
    replicateTo: "127.0.0.1:0",
  });
  const { tid } = await writeBlobs(writer);
  const url = `zrs://${writer.address}`;
  const args = [path("copy.fs"), "--blob-dir", path("copy"), "--settle", "1"];
  const { protocol, after, blobs } = await syncWell(url, ...args);
  assert.deepEqual([protocol, after.tid, blobs.copied], ["zrs2.1", tid, 6]);
  await assertSameBlobs(path("copy"), path("blobs"));
  const verify = await runZrs("verify", path("copy.fs"), url, "--blob-dir", path("copy"));
  assert.equal(verify.code, 2, verify.err);
  assert.match(verify.err, /it does not tell of them/);
});

for (const by of ["zrs", "tools", "push"] as const) {
  wayTest(
    by,
    `by ${by} a blob directory that is not there is told, and so is a missing file`,
    "zodb55",
    async () => {
      await using place = await Place.make();
      await writeBlobs(place.writer);
      const args = await place.args(by);
      const wrong = args.map((each) => each === place.sourceBlobs ? `${each}/none` : each);
      const none = await sync(...wrong);
      assert.deepEqual([none.code, none.out], [by === "zrs" ? 4 : 2, ""], none.err);
      assert.match(none.err, /Cannot use blob directory .*none.*: there is no such directory/);
      for await (const [path, size] of walkBlobs(place.sourceBlobs)) if (size === 20) Deno.removeSync(path);
      const failed = await sync(...args);
      assert.deepEqual([failed.code, failed.out], [4, ""], failed.err);
      assert.match(failed.err, /object 0x\w+ of transaction .*: its file is missing/);
      const marked = await sync(...args, "--missing-blobs", "mark", "--json");
      assert.equal(marked.code, 0, marked.err);
      assert.deepEqual(JSON.parse(marked.out).blobs.missing, 1);
      await assertSameFile(place.copy, place.source);
      await assertSameBlobs(place.copyBlobs, place.sourceBlobs);
    },
  );
}
