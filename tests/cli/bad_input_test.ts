/** What is wrong with files and addresses is said in one line before anything is touched, with its exit code. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { run } from "../../lib/cli/mod.ts";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { beforeDeadline } from "../kit/feed.ts";
import { ChildProcess } from "../kit/process.ts";
import { TempDirectory } from "../kit/temp.ts";
import { ScriptedHost } from "./scripted_host.ts";

const HISTORY: readonly TransactionDescription[] = [
  { tid: 0x3f0000000000001n, records: [{ oid: 0n, data: "first" }] },
  { tid: 0x3f0000000000002n, records: [{ oid: 0n, data: "second" }] },
  { tid: 0x3f0000000000003n, records: [{ oid: 1n, data: "third" }] },
];
const GOOD = dataFs(HISTORY).bytes;
const DAMAGED = dataFs(HISTORY.with(1, { ...HISTORY[1]!, damage: { trailer: 1n } })).bytes;

interface BadInput {
  readonly says: string;
  /** The files in the directory. */
  readonly files?: Readonly<Record<string, Uint8Array | string>>;
  readonly directories?: readonly string[];
  /** `@` stands for the directory. */
  readonly args: readonly string[];
  readonly code: number;
  readonly line: RegExp;
}

/** A port where nobody listens: the command fails before it connects. */
const FROM = ["--replicate-from", "1"];
const TO = ["--replicate-to", "0"];

const TABLE: readonly BadInput[] = [
  {
    says: "a copy has a source",
    args: ["replica-sync", "", "@/copy.fs"],
    code: 2,
    line: /^zrs replica-sync: .SOURCE.: Path must not be empty/,
  },
  {
    says: "the source comes before the copy",
    files: { "Data.fs": GOOD },
    args: ["replica-sync", "@/Data.fs", "zrs://db1:5000"],
    code: 2,
    line: /^zrs replica-sync: Cannot copy to zrs:\/\/db1:5000: .*; name the source first, and then the copy/,
  },
  {
    says: "a node is named as one, or ssh is tried",
    args: ["replica-sync", "db1:5000", "@/Data.fs"],
    code: 2,
    line:
      /^zrs replica-sync: Cannot read "db1:5000": .*; write zrs:\/\/db1:5000 for a node that listens there/,
  },
  {
    says: "a node to compare with is named as one",
    files: { "Data.fs": GOOD },
    args: ["verify", "@/Data.fs", "db1:5000"],
    code: 2,
    line: /^zrs verify: Cannot read "db1:5000": .*; write zrs:\/\/db1:5000 for a node that listens there/,
  },
  {
    says: "what is compared comes before what it is compared with",
    files: { "Data.fs": GOOD },
    args: ["verify", "zrs://db1:5000", "@/Data.fs"],
    code: 2,
    line: /^zrs verify: Cannot compare zrs:\/\/db1:5000: .*; name the copy first, and then what it should be/,
  },
  {
    says: "a primary needs a database",
    args: ["primary", "@/Data.fs", ...TO],
    code: 2,
    line: /Cannot .*Data\.fs: there is no such file or directory; check the path$/,
  },
  {
    says: "a primary's database is no directory",
    directories: ["Data.fs"],
    args: ["primary", "@/Data.fs", ...TO],
    code: 2,
    line: /Data\.fs: .*directory; name /,
  },
  {
    says: "a primary's database is a FileStorage",
    files: { "Data.fs": "PK\x03\x04 no database" },
    args: ["primary", "@/Data.fs", ...TO],
    code: 2,
    line: /Data\.fs: it is not a FileStorage.*; name the database file/,
  },
  {
    says: "a primary's database has its first four bytes",
    files: { "Data.fs": "FS" },
    args: ["primary", "@/Data.fs", ...TO],
    code: 2,
    line: /Data\.fs: it is not a FileStorage/,
  },
  {
    says: "a primary's socket lies in a directory",
    files: { "Data.fs": GOOD },
    args: ["primary", "@/Data.fs", "--replicate-to", "@/missing/socket"],
    code: 2,
    line: /Cannot listen on .*missing\/socket: there is no such file or directory/,
  },
  {
    says: "a primary's socket replaces no file",
    files: { "Data.fs": GOOD, "notes.txt": "keep" },
    args: ["primary", "@/Data.fs", "--replicate-to", "@/notes.txt"],
    code: 2,
    line: /Cannot listen on .*notes\.txt: there is a file that is not a socket; name a path that is free/,
  },
  {
    says: "a primary's socket replaces no database",
    files: { "Data.fs": GOOD },
    args: ["primary", "@/Data.fs", "--replicate-to", "@/Data.fs"],
    code: 2,
    line: /Cannot listen on .*Data\.fs/,
  },
  {
    says: "a primary listens on an address of this machine",
    files: { "Data.fs": GOOD },
    args: ["primary", "@/Data.fs", "--replicate-to", "192.0.2.1:0"],
    code: 2,
    line: /Cannot listen on 192\.0\.2\.1:0: .*; name an address of this machine/,
  },
  {
    says: "a primary listens on a host that exists",
    files: { "Data.fs": GOOD },
    args: ["primary", "@/Data.fs", "--replicate-to", "no-such-host.invalid:0"],
    code: 2,
    line: /Cannot listen on no-such-host\.invalid:0: unknown host/,
  },
  {
    says: "a primary's log is not its database",
    files: { "Data.fs": GOOD },
    args: ["primary", "@/Data.fs", ...TO, "--log-file", "@/Data.fs"],
    code: 2,
    line: /Cannot use .*Data\.fs for --log-file: it belongs to the database/,
  },
  {
    says: "a primary's ready file lies in a directory",
    files: { "Data.fs": GOOD },
    args: ["primary", "@/Data.fs", ...TO, "--ready-file", "@/missing/ready"],
    code: 2,
    line: /missing\/ready.*: there is no such file or directory/,
  },
  {
    says: "a ready file replaces nothing else",
    files: { "Data.fs": GOOD, "notes.txt": "keep" },
    args: ["primary", "@/Data.fs", ...TO, "--ready-file", "@/notes.txt"],
    code: 2,
    line: /Cannot use .*notes\.txt as ready file: something else stands there; name a path that is free/,
  },
  {
    says: "a secondary's copy is no directory",
    directories: ["Data.fs"],
    args: ["secondary", "@/Data.fs", ...FROM],
    code: 2,
    line: /Data\.fs: it is a directory; name /,
  },
  {
    says: "a secondary's copy is a FileStorage",
    files: { "Data.fs": "<!DOCTYPE html>" },
    args: ["secondary", "@/Data.fs", ...FROM],
    code: 2,
    line: /Data\.fs: it is not a FileStorage/,
  },
  {
    says: "a secondary's copy was not written by Python 2",
    files: { "Data.fs": dataFs(HISTORY, { magic: "FS21" }).bytes },
    args: ["secondary", "@/Data.fs", ...FROM],
    code: 2,
    line: /Data\.fs: .*Python 2/,
  },
  {
    says: "a secondary's copy lies in a directory",
    args: ["secondary", "@/missing/Data.fs", ...FROM],
    code: 2,
    line: /missing\/Data\.fs.*: there is no directory .*missing/,
  },
  {
    says: "a damaged copy is left alone",
    files: { "Data.fs": DAMAGED },
    args: ["secondary", "@/Data.fs", ...FROM],
    code: 7,
    line: /Data\.fs.*\d/,
  },
  {
    says: "a copy is not made beside what an interrupted pack left",
    files: { "Data.fs.old": GOOD, "Data.fs.pack": GOOD },
    args: ["secondary", "@/Data.fs", ...FROM],
    code: 2,
    line: /Cannot create .*Data\.fs: .*Data\.fs\.old.*Data\.fs\.pack.*; .*rename .*Data\.fs\.pack to /,
  },
  {
    says: "a copy is not made beside an older file of that name",
    files: { "Data.fs.old": GOOD },
    args: ["secondary", "@/Data.fs", ...FROM],
    code: 2,
    line: /Cannot create .*Data\.fs: .*Data\.fs\.old.*; rename .*Data\.fs\.old to /,
  },
  {
    says: "a copy is not made beside an index that had one",
    files: { "Data.fs.index": "anything" },
    args: ["secondary", "@/Data.fs", ...FROM],
    code: 2,
    line: /Cannot create .*Data\.fs: .*Data\.fs\.index.*; .*remove .*Data\.fs\.index/,
  },
];

/** What is in a directory, without the lock files, which are made before anything is known. */
async function contents(directory: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for await (const { name, isFile } of Deno.readDir(directory)) {
    if (name.endsWith(".lock")) continue;
    found[name] = isFile ? (await Deno.readFile(`${directory}/${name}`)).toHex() : "";
  }
  return found;
}

for (const { says, files = {}, directories = [], args, code, line } of TABLE) {
  Deno.test(says, async () => {
    await using directory = await TempDirectory.make();
    for (const [name, content] of Object.entries(files)) {
      const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
      await Deno.writeFile(directory.join(name), bytes);
    }
    for (const name of directories) await Deno.mkdir(directory.join(name));
    const before = await contents(directory.path);
    const host = new ScriptedHost();
    const given = args.map((arg) => arg.replace(/^@/, directory.path));
    const ended = beforeDeadline(`the end of zrs ${given.join(" ")}`, run(given, host), 10_000);
    assert.equal(await ended, code, host.written.err);
    assert.match(host.written.err, new RegExp(`^zrs ${args[0]}: [^\n]*\n$`));
    assert.match(host.written.err.trimEnd(), line);
    assert.deepEqual(await contents(directory.path), before);
    assert.equal(host.listens, false);
  });
}

Deno.test("a port in use is refused", async () => {
  await using directory = await TempDirectory.make();
  await Deno.writeFile(directory.join("Data.fs"), GOOD);
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const host = new ScriptedHost();
  const args = ["primary", directory.join("Data.fs"), "--replicate-to", `${listener.addr.port}`];
  assert.equal(await run(args, host), 2);
  assert.match(
    host.written.err,
    /^zrs primary: Cannot listen on 127\.0\.0\.1:\d+: the address is in use; stop /,
  );
});

Deno.test("a Unix socket on which a process listens is refused, and stays", async () => {
  await using directory = await TempDirectory.make();
  await Deno.writeFile(directory.join("Data.fs"), GOOD);
  const path = directory.join("socket");
  using _listener = Deno.listen({ transport: "unix", path });
  const host = new ScriptedHost();
  assert.equal(await run(["primary", directory.join("Data.fs"), "--replicate-to", path], host), 2);
  assert.match(host.written.err, /^zrs primary: Cannot listen on .*socket: the address is in use; /);
  assert.equal((await Deno.lstat(path)).isSocket, true);
});

Deno.test("a second secondary on one copy is refused with 5, and the first goes on", async () => {
  await using directory = await TempDirectory.make();
  const copy = directory.join("Data.fs");
  const ready = directory.join("ready");
  await Deno.symlink("Data.fs", directory.join("link"));
  const first = new ScriptedHost();
  const args = ["secondary", copy, ...FROM, "--ready-file", ready];
  const running = run(args, first);
  await beforeDeadline("the copy to be ready", first.ready);

  const second = new ScriptedHost();
  second.running.add(first.pid);
  assert.equal(await run(args, second), 5);
  assert.match(second.written.err, /^zrs secondary: Cannot .*Data\.fs.*lock[^\n]*\n$/);
  assert.equal(JSON.parse(await Deno.readTextFile(ready)).pid, first.pid);

  first.signal("SIGTERM");
  assert.equal(await running, 0);
  assert.equal(first.written.err, "");
});

Deno.test("a copy cannot be the file that the primary follows, also through links", async () => {
  await using directory = await TempDirectory.make();
  const path = directory.join("Data.fs");
  await Deno.writeFile(path, GOOD);
  await Deno.symlink("Data.fs", directory.join("soft"));
  await Deno.link(path, directory.join("hard"));
  const ready = directory.join("ready");
  const primary = new ScriptedHost();
  const running = run(["primary", path, ...TO, "--ready-file", ready], primary);
  await beforeDeadline("the primary to be ready", primary.ready);
  const { replicateTo } = JSON.parse(await Deno.readTextFile(ready));
  for (const name of ["Data.fs", "soft", "hard"]) {
    const secondary = new ScriptedHost();
    assert.equal(
      await run(["secondary", directory.join(name), "--replicate-from", replicateTo], secondary),
      2,
    );
    assert.match(
      secondary.written.err,
      /^zrs secondary: Cannot replicate from [^\n]*the same; name another file[^\n]*\n$/,
    );
    assert.deepEqual(await Deno.readFile(path), GOOD);
  }
  primary.signal("SIGTERM");
  assert.equal(await running, 0);
});

Deno.test("a name that is not UTF-8 is refused, and not taken for another one", async () => {
  await using directory = await TempDirectory.make();
  Deno.writeFileSync(directory.join("Data.fs"), dataFs([]).bytes);
  // No string of ours can be such a name: the shell makes it.
  const script = `"$@" replica-sync Data.fs "$(printf 'copy\\377.fs')"`;
  const main = fileURLToPath(new URL("../../main.ts", import.meta.url));
  const zrs = [Deno.execPath(), "run", "--allow-all", main];
  await using process = ChildProcess.start("sh", ["-c", `cd '${directory.path}' && ${script}`, "sh", ...zrs]);
  const { code } = await process.exited;
  assert.deepEqual([code, process.stdout.items], [2, []]);
  assert.match(
    process.stderr.items.join("\n"),
    /^zrs replica-sync: Cannot read argument copy.\.fs: it must be UTF-8/,
  );
  assert.deepEqual([...Deno.readDirSync(directory.path)].map(({ name }) => name), ["Data.fs"]);
});
