/** The program as a process: two servers and their end by signals, what a kill leaves, and no permission. */
import assert from "node:assert/strict";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { beforeDeadline } from "../kit/feed.ts";
import { ChildProcess, startZrs, waitForReadyFile } from "../kit/process.ts";
import { TempDirectory } from "../kit/temp.ts";

const FILE = dataFs(Array.from({ length: 20 }, (_, index): TransactionDescription => ({
  tid: 0x3f0000000000001n + BigInt(index),
  records: [{ oid: BigInt(index % 3), data: `revision ${index}` }],
}))).bytes;

/** Waits until a file satisfies the condition, looking at every change in its directory. */
async function waitForFile(
  directory: TempDirectory,
  name: string,
  holds: (bytes: Uint8Array) => boolean,
): Promise<void> {
  async function look(watcher: Deno.FsWatcher): Promise<void> {
    const path = directory.join(name);
    const isThere = async () => holds(await Deno.readFile(path).catch(() => new Uint8Array()));
    if (await isThere()) return;
    for await (const _ of watcher) {
      if (await isThere()) return;
    }
  }
  using watcher = Deno.watchFs(directory.path, { recursive: false });
  await beforeDeadline(`${name} to be as expected`, look(watcher));
}

function equals(expected: Uint8Array): (bytes: Uint8Array) => boolean {
  return (bytes) =>
    bytes.length === expected.length && bytes.every((byte, index) => byte === expected[index]);
}

async function names(directory: TempDirectory): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(directory.path), ({ name }) => name)).sort();
}

Deno.test("primary and secondary replicate, and stop cleanly on SIGTERM and SIGINT", async () => {
  for (const [options, beside] of [[[], []], [["--remember"], ["Data.fs.secondaries"]]]) {
    await replicate(options!, beside!);
  }
});

/** @param beside what the primary is to leave beside the file that it follows */
async function replicate(options: readonly string[], beside: readonly string[]): Promise<void> {
  await using directory = await TempDirectory.make();
  await Deno.writeFile(directory.join("Data.fs"), FILE);
  await using primary = startZrs([
    ...["primary", directory.join("Data.fs"), "--replicate-to", directory.join("p.sock")],
    ...["--ready-file", directory.join("p.ready"), ...options],
  ]);
  const first = await waitForReadyFile(directory.join("p.ready"), primary);
  assert.deepEqual(first, { pid: primary.pid, replicateTo: directory.join("p.sock") });

  await using secondary = startZrs([
    ...["secondary", directory.join("copy.fs"), "--replicate-from", directory.join("p.sock")],
    ...["--replicate-to", "0", "--ready-file", directory.join("s.ready")],
  ]);
  const second = await waitForReadyFile(directory.join("s.ready"), secondary);
  assert.equal(second["pid"], secondary.pid);
  assert.match(String(second["replicateTo"]), /^127\.0\.0\.1:[1-9]\d*$/);
  await waitForFile(directory, "copy.fs", equals(FILE));
  for (const name of beside) await waitForFile(directory, name, (bytes) => bytes.length > 0);

  assert.equal((await primary.stop("SIGINT")).code, 0);
  assert.equal((await secondary.stop("SIGTERM")).code, 0);
  for (const { stderr, stdout } of [primary, secondary]) {
    assert.deepEqual(stdout.items, []);
    assert(!stderr.items.some((line) => line.startsWith("zrs")), stderr.items.join("\n"));
  }
  assert.deepEqual(await names(directory), [
    "Data.fs",
    ...beside,
    "copy.fs",
    "copy.fs.index",
    "copy.fs.lock",
  ]);
}

Deno.test("a killed server leaves a ready file and a socket, which the next one replaces", async () => {
  await using directory = await TempDirectory.make();
  await Deno.writeFile(directory.join("Data.fs"), FILE);
  const ready = directory.join("ready");
  const args = [
    ...["primary", directory.join("Data.fs"), "--replicate-to", directory.join("socket")],
    ...["--ready-file", ready],
  ];
  await using killed = startZrs(args);
  await waitForReadyFile(ready, killed);
  await killed.stop("SIGKILL");
  assert.deepEqual(await names(directory), ["Data.fs", "ready", "socket"]);

  await using next = startZrs(args);
  await waitForFile(
    directory,
    "ready",
    (bytes) => new TextDecoder().decode(bytes).includes(`"pid":${next.pid},`),
  );
  assert.equal((await next.stop()).code, 0);
  assert.deepEqual(await names(directory), ["Data.fs"]);
});

Deno.test("a log that rotation has moved away goes on under its name after SIGHUP", async () => {
  await using directory = await TempDirectory.make();
  await Deno.writeFile(directory.join("Data.fs"), FILE);
  const log = directory.join("log");
  await using primary = startZrs([
    ...["primary", directory.join("Data.fs"), "--replicate-to", "0", "--log-file", log],
    ...["--ready-file", directory.join("ready")],
  ]);
  await waitForReadyFile(directory.join("ready"), primary);
  await Deno.rename(log, directory.join("log.1"));
  primary.kill("SIGHUP");
  await waitForFile(directory, "log", () => existsSync(log));
  assert.equal((await primary.stop()).code, 0);
  assert.match(await Deno.readTextFile(directory.join("log.1")), /INFO Following /);
  assert.match(await Deno.readTextFile(log), /INFO Stopping signal=SIGTERM\n/);
  assert.deepEqual(primary.stderr.items, []);
});

Deno.test("a log file that cannot be opened is refused with 2", async () => {
  await using directory = await TempDirectory.make();
  await Deno.writeFile(directory.join("Data.fs"), FILE);
  await using primary = startZrs([
    ...["primary", directory.join("Data.fs"), "--replicate-to", "0"],
    ...["--log-file", directory.join("missing", "log")],
  ]);
  assert.equal((await primary.exited).code, 2);
  assert.match(
    primary.stderr.items.join("\n"),
    /^zrs primary: Cannot open log file .*missing\/log: there is no such/,
  );
});

Deno.test("rewind asks nobody where there is no terminal", async () => {
  await using directory = await TempDirectory.make();
  await Deno.writeFile(directory.join("Data.fs"), FILE);
  await using rewind = startZrs(["rewind", directory.join("Data.fs"), "--to", "0"]);
  await rewind.write("y\n");
  assert.equal((await rewind.exited).code, 2);
  assert.match(rewind.stderr.items.join("\n"), /^zrs rewind: Cannot ask whether to rewind .*; give --yes/);
  assert.deepEqual(await Deno.readFile(directory.join("Data.fs")), FILE);
});

function existsSync(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

/** What takes the right to pass over permissions from root, and nothing from anybody else. */
const WITHOUT_PRIVILEGES = [
  "setpriv",
  "--bounding-set=-dac_override,-dac_read_search",
  "--inh-caps=-dac_override,-dac_read_search",
] as const;

/** The command to put in front of one that must not read what permissions forbid; undefined: there is none. */
function withoutPrivileges(): readonly string[] | undefined {
  if (Deno.uid() !== 0) return [];
  const [command, ...args] = WITHOUT_PRIVILEGES;
  try {
    const { success } = new Deno.Command(command, { args: [...args, "true"], stderr: "null" }).outputSync();
    return success ? WITHOUT_PRIVILEGES : undefined;
  } catch {
    return undefined;
  }
}

const prefix = withoutPrivileges();
const reason = prefix === undefined ? " (skipped: root, and setpriv cannot drop that)" : "";

Deno.test(
  `a file without permission is refused with 2${reason}`,
  { ignore: prefix === undefined },
  async () => {
    await using directory = await TempDirectory.make();
    const path = directory.join("Data.fs");
    await Deno.writeFile(path, FILE);
    await Deno.chmod(path, 0o000);
    const main = new URL("../../main.ts", import.meta.url).pathname;
    for (
      const args of [["primary", path, "--replicate-to", "0"], ["secondary", path, "--replicate-from", "1"]]
    ) {
      const [command, ...rest] = [...prefix!, Deno.execPath(), "run", "--allow-all", main, ...args];
      await using process = ChildProcess.start(command!, rest);
      assert.equal((await process.exited).code, 2);
      const [line, ...more] = process.stderr.items;
      assert.match(
        line!,
        new RegExp(`^zrs ${args[0]}: Cannot open .*Data\\.fs.*: permission denied; check the owner`),
      );
      assert.deepEqual(more, []);
    }
  },
);
