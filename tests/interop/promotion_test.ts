/** The runbook for a lost primary (docs/promotion.md), gone through with real ZEO servers, clients and kills. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import type { EnvironmentName } from "../kit/environments.ts";
import { interpreterOf, OpenCheck, peerTest, ZeoClient, ZodbWriter } from "../kit/peers.ts";
import type { ChildProcess, Ended } from "../kit/process.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { TempDirectory } from "../kit/temp.ts";
import { walk } from "../kit/walk.ts";
import { sizeOf, waitForChanges } from "./processes.ts";
import { Machines, Runbook } from "./runbook.ts";
import { assertSameFile } from "./sameness.ts";

const ZEO_PORT = 8100;

/** How ZODB opened a file (kit/python/runzeo.py). */
interface Opening {
  readonly opened: string;
  /** Where it began and ended to scan. */
  readonly from: number;
  readonly to: number;
  /** The file's size. */
  readonly before: number;
  readonly after: number;
  /** Whether the index is what a scan of everything gives. */
  readonly indexIsRight: boolean;
}

/** One company's machines and database, and the runbook. */
class Drill implements AsyncDisposable {
  readonly #book: Runbook;
  readonly #machines: Machines;
  readonly #environment: EnvironmentName;
  readonly #owned: AsyncDisposableStack;
  #clients = 0;

  private constructor(
    book: Runbook,
    machines: Machines,
    environment: EnvironmentName,
    owned: AsyncDisposableStack,
  ) {
    this.#book = book;
    this.#machines = machines;
    this.#environment = environment;
    this.#owned = owned;
  }

  /** db1 has a database with a past, perhaps with blobs; nothing runs. */
  static async begin(
    book: Runbook,
    environment: EnvironmentName,
    { blobs }: { blobs: boolean },
  ): Promise<Drill> {
    await using owned = new AsyncDisposableStack();
    const directory = owned.use(await TempDirectory.make());
    const configuration = blobs ? book.zeoConfiguration : undefined;
    const machines = new Machines(directory.path, interpreterOf(environment), configuration);
    {
      await using writer = await ZodbWriter.start(environment, {
        path: machines.database("db1"),
        blobDir: machines.blobs("db1"),
      });
      if (blobs) await writer.commitBlobs([["old", 100_000], ["empty", 0]]);
      const { tid } = await writer.commitMany({ count: 50, size: 300, objects: 3, keys: 20 });
      await writer.pack({ tid });
      await writer.commit([["n", 0]]);
      await writer.undo([1]);
      if (blobs) await writer.commitBlobs([["old", 200_000]]);
      await writer.close();
    }
    return new Drill(book, machines, environment, owned.move());
  }

  database(machine: string): string {
    return this.#machines.database(machine);
  }

  /** Where there are blobs: the paths of their files within the blob directory, and what is in them. */
  async blobFiles(machine: string): Promise<Record<string, string> | undefined> {
    const directory = this.#machines.blobs(machine);
    if (directory === undefined) return undefined;
    const names = (await walk(directory)).filter((name) => name.endsWith(".blob"));
    return Object.fromEntries(names.map((name) => [name, sha256(Deno.readFileSync(`${directory}/${name}`))]));
  }

  /** Asserts that a machine has the blobs of another one, and no others but these. */
  async assertSameBlobs(machine: string, source: string, others: readonly string[] = []): Promise<void> {
    const [copy, original] = [await this.blobFiles(machine), await this.blobFiles(source)];
    for (const name of others) {
      assert(copy![name] !== undefined, `${name} is still there`);
      delete copy![name];
    }
    assert.deepEqual(copy, original);
  }

  get hasBlobs(): boolean {
    return this.#machines.blobs("db1") !== undefined;
  }

  /** Starts commands of the runbook that stay, each named by its beginning, in one process group. */
  start(machine: string, ...beginnings: string[]): ChildProcess {
    const commands = beginnings.map((each) => this.#book.take(machine, ...ends(each)));
    return this.#owned.use(this.#machines.start(machine, ...commands));
  }

  /** Runs a command of the runbook, named by its beginning, and perhaps `… end`. */
  async run(machine: string, beginning: string, tid = ""): Promise<Ended> {
    const command = this.#book.take(machine, ...ends(beginning));
    return await this.#machines.run(machine, command.replace("TID", tid));
  }

  /** An application that knows the ZEO servers of these machines. */
  async client(...machines: string[]): Promise<ZeoClient> {
    const addresses = machines.map((each) => this.#machines.address(each, ZEO_PORT));
    const blobDir = this.hasBlobs
      ? join(this.#machines.place(machines[0]!), `client${this.#clients++}`)
      : undefined;
    return this.#owned.use(await ZeoClient.start(this.#environment, addresses, blobDir));
  }

  /** Waits until a machine has all that another has, where nothing is being written: also the last status byte. */
  async caughtUp(machine: string, source: string): Promise<void> {
    const [copy, original] = [this.database(machine), this.database(source)];
    await waitForChanges(
      `${machine} to catch up with ${source}`,
      this.#machines.place(machine),
      () =>
        sizeOf(copy) === sizeOf(original) && sameBytes(Deno.readFileSync(copy), Deno.readFileSync(original)),
    );
  }

  async check(path: string) {
    await using zodb = await OpenCheck.start(this.#environment);
    return await zodb.check(path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owned[Symbol.asyncDispose]();
  }
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

function sameBytes(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && one.every((byte, at) => byte === other[at]);
}

function ends(beginning: string): [string, string?] {
  const [start, end] = beginning.split(" … ");
  return end === undefined ? [start!] : [start!, end];
}

/** What `runzeo` says of its file, once it listens. ZODB has had nothing to complain of but what is `expected`. */
async function openingBy(zeo: ChildProcess, expected = /^$/): Promise<Opening> {
  await zeo.stderr.waitFor("the ZEO server to listen", (line) => / listening on /.test(line));
  const complaints = zeo.stderr.items.filter((line) => / (WARNING|ERROR|CRITICAL) /.test(line));
  assert.deepEqual(complaints.filter((line) => !expected.test(line)), []);
  const said = zeo.stderr.items.find((line) => line.startsWith('{"opened"'));
  assert(said !== undefined, "runzeo says how it opened its file");
  return JSON.parse(said);
}

/** Adds to a file what a secondary leaves there that is killed within a transaction: one that does not count yet. */
async function tearEnd(path: string): Promise<number> {
  const bytes = await Deno.readFile(path);
  const view = new DataView(bytes.buffer);
  const last = bytes.slice(bytes.length - 8 - Number(view.getBigUint64(bytes.length - 8)));
  last[7]! += 1;
  last[16] = "c".charCodeAt(0);
  const torn = last.subarray(0, last.length - 20);
  await Deno.writeFile(path, torn, { append: true });
  return torn.length;
}

/** Inode, size and time of the last change: what tells whether somebody has written. */
function traceOf(path: string) {
  const { ino, size, mtime } = Deno.statSync(path);
  return { ino, size, mtime };
}

function saying(process: ChildProcess, what: RegExp): string[] {
  return process.stderr.items.filter((line) => what.test(line));
}

function upTo(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, at) => first + at);
}

/** db1 is lost when db2 had everything; later they change places on purpose. */
async function takeOverAndBack(drill: Drill): Promise<void> {
  const lost = drill.start("db1", "runzeo", "zrs primary");
  const client = await drill.client("db1", "db2");
  const secondary = drill.start("db2", "zrs secondary");
  if (drill.hasBlobs) await client.setBlob("b", ["first", "second", ""]);
  await client.set("n", upTo(1, 20));
  await drill.caughtUp("db2", "db1");
  await drill.assertSameBlobs("db2", "db1");
  const watched = await drill.run("db2", "zrs status");
  assert.equal(watched.code, 0, watched.err);
  assert.match(watched.out, /connected for .*\n +all that there is is on disk$/);

  await lost.stop("SIGKILL");
  const writing = client.set("n", upTo(21, 40));
  assert.match((await drill.run("db2", "zrs log /srv/zodb/Data.fs")).out, /n is 20$/);
  assert.equal((await secondary.stop("SIGTERM")).code, 0);
  const promoted = await drill.run("db2", "zrs promote");
  assert.equal(promoted.code, 0, promoted.err);
  assert.match(promoted.out, /nothing waits\n.* is ready to be opened$/);
  const [file, index] = [drill.database("db2"), `${drill.database("db2")}.index`];
  const before = [traceOf(file).ino, traceOf(index)];
  const { size } = traceOf(file);
  const zeo = drill.start("db2", "runzeo");
  const opening = await openingBy(zeo);
  assert.deepEqual(
    [opening.from, opening.to, opening.before, opening.after, opening.indexIsRight],
    [size, size, size, size, true],
  );
  assert.deepEqual([traceOf(file).ino, traceOf(index)], before);
  const primary = drill.start("db2", "zrs primary");
  await writing;
  assert.equal(await client.get("n"), 40);
  if (drill.hasBlobs) {
    assert.equal(await client.getBlob("b"), "");
    assert.equal((await client.getBlob("old"))?.length, 200_000);
    await client.setBlob("b", ["by db2"]);
  }

  const third = drill.start("db3", "zrs secondary");
  await client.set("n", upTo(41, 45));
  await drill.caughtUp("db3", "db2");
  await assertSameFile(drill.database("db3"), file);
  await drill.assertSameBlobs("db3", "db2");

  const asked = await drill.run("db1", "zrs replica-sync --dry-run");
  assert.equal(asked.code, 0, asked.err);
  const returned = drill.start("db1", "zrs secondary … :5000");
  await client.set("n", upTo(46, 50));
  await drill.caughtUp("db1", "db2");
  await assertSameFile(drill.database("db1"), file);
  await drill.assertSameBlobs("db1", "db2");
  assert.deepEqual(saying(returned, /refuses| ERROR /), []);
  await third.stop("SIGTERM");

  // And back.
  await zeo.stop("SIGTERM");
  const waiting = client.set("n", upTo(51, 60));
  assert.equal((await returned.stop("SIGTERM")).code, 0);
  const synced = await drill.run("db1", "zrs replica-sync zrs:");
  assert.equal(synced.code, 0, synced.err);
  assert.match(synced.out, /^Replica complete/);
  await drill.assertSameBlobs("db1", "db2");
  await primary.stop("SIGTERM");
  const back = drill.start("db1", "runzeo");
  const { from, to, indexIsRight } = await openingBy(back);
  assert.deepEqual([from === to, indexIsRight], [true, true]);
  drill.start("db1", "zrs primary");
  await waiting;
  const follower = drill.start("db2", "zrs secondary");
  await drill.caughtUp("db2", "db1");
  const compared = await drill.run("db2", "zrs verify");
  assert.equal(compared.code, 0, `${compared.out}\n${compared.err}`);
  assert.equal((await follower.stop("SIGTERM")).code, 0);
  assert.equal(await client.get("n"), 60);
  if (drill.hasBlobs) assert.equal(await client.getBlob("b"), "by db2");
  await drill.assertSameBlobs("db2", "db1");
}

/** db1 is lost with commits that nobody else had; db2 was killed, too, and takes over. */
async function takeOverWithLoss(drill: Drill, how: "by hand" | "auto"): Promise<void> {
  const lost = drill.start("db1", "runzeo", "zrs primary");
  const client = await drill.client("db1", "db2");
  const [old, file] = [drill.database("db1"), drill.database("db2")];
  await client.set("n", upTo(1, 20));
  const first = drill.start("db2", "zrs secondary");
  await drill.caughtUp("db2", "db1");
  assert.equal((await first.stop("SIGTERM")).code, 0);
  const indexed = sizeOf(file);
  const killed = drill.start("db2", "zrs secondary");
  const { tid: common } = await client.set("n", upTo(21, 30));
  await drill.caughtUp("db2", "db1");
  await killed.stop("SIGKILL");
  const { tid: firstLost } = await client.set("n", [31]);
  const commonBlobs = Object.keys(await drill.blobFiles("db1") ?? {});
  if (drill.hasBlobs) await client.setBlob("b", ["32"]);
  else await client.set("n", [32]);
  await client.set("n", [33]);
  const lostBlobs = Object.keys(await drill.blobFiles("db1") ?? {}).filter((each) =>
    !commonBlobs.includes(each)
  );
  assert.equal(lostBlobs.length, drill.hasBlobs ? 1 : 0);
  await lost.stop("SIGKILL");

  const { size } = traceOf(file);
  const torn = await tearEnd(file);
  const opening = await openingBy(drill.start("db2", "runzeo"), /truncated/);
  assert.deepEqual(opening, {
    opened: file,
    from: indexed,
    to: size,
    before: size + torn,
    after: size,
    indexIsRight: true,
  });
  assert.equal(sizeOf(`${file}.tr0`), torn);
  const primary = drill.start("db2", "zrs primary");
  const refusing = client.set("n", [0]).catch(() => {}); // never comes to an end
  await client.waitForLog(/Client cache is out of sync with the server/);
  await client.kill();
  await refusing;
  const again = await drill.client("db1", "db2");
  assert.equal(await again.get("n"), 30);
  await again.set("n", upTo(101, 110));
  if (drill.hasBlobs) await again.setBlob("b", ["by db2"]);

  const before = await Deno.readFile(old);
  const asked = await drill.run("db1", "zrs replica-sync --dry-run");
  assert.equal(asked.code, 3, `${asked.out}\n${asked.err}`);
  assert.match(asked.err, /the histories differ, nothing was written/);
  assert.match(asked.err, new RegExp(common));
  const refused = drill.start("db1", "zrs secondary … :5000");
  await refused.stderr.waitFor("a refusal", (line) => /refuses this replica: forked: /.test(line));
  const limited = await drill.run("db1", "zrs status");
  assert.equal(limited.code, 1);
  assert.match(`${limited.out}\n${limited.err}`, /forked: your last transaction is/);
  assert.equal((await refused.stop("SIGTERM")).code, 0);
  assertSameBytes(await Deno.readFile(old), before);

  if (how === "by hand") {
    const shown = await drill.run("db1", "zrs rewind … --dry-run");
    assert.equal(shown.code, 0, shown.err);
    assert.match(shown.out, /n is 31\n.*n is 32\n.*n is 33\n/);
    assertSameBytes(await Deno.readFile(old), before);
    const rewound = await drill.run("db1", "zrs rewind … --yes");
    assert.equal(rewound.code, 0, rewound.err);
  }
  const returned = drill.start("db1", how === "by hand" ? "zrs secondary … :5000" : "zrs secondary … auto");
  await drill.caughtUp("db1", "db2");
  await again.set("n", upTo(111, 120));
  await drill.caughtUp("db1", "db2");
  assert.equal((await returned.stop("SIGTERM")).code, 0);
  await assertSameFile(old, file);
  await drill.assertSameBlobs("db1", "db2", lostBlobs);
  assert.deepEqual(saying(returned, / ERROR |refuses this replica/), []);
  assert.equal(saying(returned, /Rewound .*3 transactions taken back/).length, how === "auto" ? 1 : 0);

  const kept = await drill.check(`${old}.rewound-${firstLost}`);
  assert.deepEqual(
    kept.transactions!.map(({ description }) => new TextDecoder().decode(Uint8Array.fromBase64(description))),
    ["n is 31", drill.hasBlobs ? "b is 32" : "n is 32", "n is 33"],
  );
  const told = await drill.run("db1", "zrs log /srv/zodb/Data.fs.rewound-TID", firstLost);
  assert.match(told.out, /n is 33\n {2}0{16} {2}persistent\.mapping\.PersistentMapping/);
  assert.equal((await primary.stop("SIGTERM")).code, 0);
}

peerTest(
  "a copy takes over and the old primary comes back, as the runbook says",
  ["zodb55", "zodb6"],
  async (t) => {
    const book = Runbook.read("docs/promotion.md");
    for (const environment of ["zodb55", "zodb6"] as const) {
      const blobs = environment === "zodb6";
      const which = blobs ? `${environment}, with blobs` : environment;
      await t.step(`when nothing was lost, and back on purpose (${which})`, async () => {
        await using drill = await Drill.begin(book, environment, { blobs });
        await takeOverAndBack(drill);
      });
      const how = environment === "zodb55" ? "by hand" : "auto";
      await t.step(`when the last commits were lost, taken back ${how} (${which})`, async () => {
        await using drill = await Drill.begin(book, environment, { blobs });
        await takeOverWithLoss(drill, how);
      });
    }
    assert.deepEqual(book.left, [], "every command has been run");
  },
);
