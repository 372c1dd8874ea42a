/** Real nodes, asked by `zrs status` as an administrator and a monitor ask them. */
import assert from "node:assert/strict";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { beforeDeadline } from "../kit/feed.ts";
import { type ChildProcess, type Ended, endOf, startZrs, waitForReadyFile } from "../kit/process.ts";
import { TempDirectory } from "../kit/temp.ts";

const FIRST_TID = 0x03f0_0000_0000_0001n;
const HISTORY = Array.from({ length: 20 }, (_, index): TransactionDescription => ({
  tid: FIRST_TID + (BigInt(index) << 32n),
  records: [{ oid: BigInt(index % 3), data: `revision ${index}` }],
}));
const FILE = dataFs(HISTORY).bytes;
const LAST_TID = "03f0001300000001";

async function ask(...args: string[]): Promise<Ended> {
  await using process = startZrs(["status", ...args]);
  return await beforeDeadline("zrs status", endOf(process));
}

/** Asks for JSON until it is as wanted; each time is a new process, so this is no busy loop. */
async function askUntil(
  path: string,
  isWanted: (status: Record<string, unknown>) => boolean,
): Promise<Record<string, unknown>> {
  async function look(): Promise<Record<string, unknown>> {
    for (;;) {
      const { code, out, err } = await ask(path, "--json");
      assert.equal(code, 0, err);
      const status = JSON.parse(out);
      if (isWanted(status)) return status;
    }
  }
  return await beforeDeadline("the status to be as wanted", look());
}

/** A primary with a control socket, ready. */
async function startPrimary(directory: TempDirectory): Promise<ChildProcess> {
  await Deno.writeFile(directory.join("Data.fs"), FILE);
  const primary = startZrs([
    ...["primary", directory.join("Data.fs"), "--replicate-to", directory.join("p")],
    ...["--control", directory.join("p.control"), "--ready-file", directory.join("p.ready")],
  ]);
  const ready = await waitForReadyFile(directory.join("p.ready"), primary);
  assert.equal(ready["control"], directory.join("p.control"));
  return primary;
}

/** A secondary of that primary, ready. */
async function startSecondary(directory: TempDirectory, ...options: string[]): Promise<ChildProcess> {
  const ready = directory.join("s.ready");
  await Deno.remove(ready).catch(() => {});
  const secondary = startZrs([
    ...["secondary", directory.join("copy.fs"), "--replicate-from", directory.join("p")],
    ...["--replicate-to", "0", "--retry-max", "0.5", "--ready-file", ready, ...options],
  ]);
  await waitForReadyFile(ready, secondary);
  return secondary;
}

Deno.test("primary and secondary tell of themselves and each other, and of an end", async () => {
  await using directory = await TempDirectory.make();
  const data = directory.join("Data.fs");
  const copy = directory.join("copy.fs");
  await using primary = await startPrimary(directory);
  await using secondary = await startSecondary(directory);

  const own = await askUntil(copy, ({ lastTid }) => lastTid === LAST_TID);
  const { since, now, source, ...rest } = own;
  assert.deepEqual(rest, {
    role: "secondary",
    version: rest["version"],
    pid: secondary.pid,
    path: copy,
    lastTid: LAST_TID,
    lastTime: "2023-04-27T05:07:00.000Z",
    bytes: FILE.length,
    blobs: "refuse",
    missingBlobs: null,
    problem: null,
    delay: null,
    replicateTo: rest["replicateTo"],
    peers: [],
  });
  assert.match(String(rest["replicateTo"]), /^127\.0\.0\.1:\d+$/);
  assert(Date.parse(String(since)) <= Date.parse(String(now)));
  const { since: connectedSince, ...link } = source as Record<string, unknown>;
  assert.deepEqual(link, {
    address: directory.join("p"),
    connected: true,
    protocol: "native",
    receivedTid: LAST_TID,
    durableTid: LAST_TID,
    lag: { bytes: 0, seconds: 0, against: "source" },
    lastTid: LAST_TID,
    lastError: null,
    nextAttempt: null,
    packedTo: null,
  });
  assert(Date.parse(String(connectedSince)) >= Date.parse(String(since)) - 1000);

  const served = await askUntil(
    directory.join("p.control"),
    ({ peers }) => Array.isArray(peers) && peers.length > 0,
  );
  assert.deepEqual([served["role"], served["pid"], served["path"]], ["primary", primary.pid, data]);
  const [peer] = served["peers"] as Record<string, unknown>[];
  assert.deepEqual(
    [peer!["protocol"], peer!["sentTid"], peer!["position"], peer!["lag"]],
    ["native", LAST_TID, FILE.length, { bytes: 0, seconds: 0 }],
  );

  const screen = await ask(copy, "--max-lag", "60", "--max-lag-bytes", "1M");
  assert.deepEqual([screen.code, screen.err], [0, ""]);
  assert.match(screen.out, /^source +.*, connected for /m);
  const nagios = await ask(directory.join("p.control"), "--nagios", "--max-lag", "60");
  assert.equal(nagios.code, 0);
  assert.match(nagios.out, /^ZRS OK - primary with 1 secondary, .* \| lag=0s;;60 /);

  await primary.stop();
  await askUntil(copy, ({ source }) => (source as { connected: boolean }).connected === false);
  const lost = await ask(copy, "--max-lag", "60");
  assert.equal(lost.code, 1);
  assert.match(lost.err, /^zrs status: --max-lag 60 passed: not connected to /);
  assert.equal((await ask(copy, "--nagios")).code, 2);

  await secondary.stop();
  const gone = await ask(copy);
  assert.equal(gone.code, 4);
  assert.match(gone.err, /no node listens at .*copy\.fs\.zrs; start zrs secondary/);
});

Deno.test("a control socket is its owner's alone, a stale one is replaced, and the file is found through links", async () => {
  await using directory = await TempDirectory.make();
  await using _primary = await startPrimary(directory);
  const control = directory.join("copy.fs.zrs");
  await using killed = await startSecondary(directory);
  for (const path of [control, directory.join("p.control")]) {
    const { isSocket, mode } = await Deno.lstat(path);
    assert.deepEqual([isSocket, mode! & 0o777], [true, 0o600]);
  }
  await killed.stop("SIGKILL");
  const dead = await ask(directory.join("copy.fs"));
  assert.equal(dead.code, 4);
  assert.match(dead.err, /connection refused; start the node/);

  await using next = await startSecondary(directory);
  assert.equal((await Deno.lstat(control)).mode! & 0o777, 0o600);
  await Deno.mkdir(directory.join("elsewhere"));
  await Deno.symlink("../copy.fs", directory.join("elsewhere", "Data.fs"));
  const linked = await ask(directory.join("elsewhere", "Data.fs"), "--json");
  assert.equal(JSON.parse(linked.out).pid, next.pid);
  await next.stop();
  await assert.rejects(Deno.lstat(control), Deno.errors.NotFound);
});

Deno.test("what is not a socket is left alone: beside the file it is done without, where it was asked for refused", async () => {
  await using directory = await TempDirectory.make();
  await using _primary = await startPrimary(directory);
  const control = directory.join("copy.fs.zrs");
  await Deno.writeTextFile(control, "mine");
  await using without = await startSecondary(directory);
  await without.stderr.waitFor("a warning", (line) => /going on without a control socket/.test(line));
  assert.equal(await Deno.readTextFile(control), "mine");
  assert.equal((await ask(directory.join("copy.fs"))).code, 4);
  assert.equal((await without.stop()).code, 0);

  const args = ["secondary", directory.join("copy.fs"), "--replicate-from", directory.join("p")];
  await using refused = startZrs([...args, "--control", control]);
  assert.equal((await beforeDeadline("its end", refused.exited)).code, 2);
  assert.match(
    refused.stderr.items.join("\n"),
    /zrs secondary: Cannot listen on .*not a socket; name a path/,
  );
  assert.equal(await Deno.readTextFile(control), "mine");
});

Deno.test("where the path beside the file is too long the log says so, and --control names another", async () => {
  await using directory = await TempDirectory.make();
  await using _primary = await startPrimary(directory);
  const deep = directory.join("d".repeat(100));
  await Deno.mkdir(deep);
  const args = ["secondary", `${deep}/Data.fs`, "--replicate-from", directory.join("p")];
  await using without = startZrs([...args, "--ready-file", directory.join("ready")]);
  const ready = await waitForReadyFile(directory.join("ready"), without);
  assert.equal(ready["control"], undefined);
  const warning = await without.stderr.waitFor("a warning", (line) => /control socket/.test(line));
  assert.match(warning, /WARNING Cannot listen on .*Data\.fs\.zrs: the path is too long .*--control PATH/);
  await without.stop();

  const control = directory.join("control");
  await using named = startZrs([...args, "--control", control, "--ready-file", directory.join("ready")]);
  assert.equal((await waitForReadyFile(directory.join("ready"), named))["control"], control);
  const { code, out } = await ask(control);
  assert.equal(code, 0);
  assert(out.includes(`${deep}/Data.fs`));
});

Deno.test("a primary writes nothing beside the file that it follows", async () => {
  await using directory = await TempDirectory.make();
  await Deno.mkdir(directory.join("source"));
  const data = directory.join("source", "Data.fs");
  await Deno.writeFile(data, FILE);
  await using primary = startZrs([
    ...["primary", data, "--replicate-to", "0", "--ready-file", directory.join("ready")],
  ]);
  const ready = await waitForReadyFile(directory.join("ready"), primary);
  assert.equal(ready["control"], undefined);
  const names = await Array.fromAsync(Deno.readDir(directory.join("source")), ({ name }) => name);
  assert.deepEqual(names, ["Data.fs"]);
  assert.equal((await ask(data)).code, 4);
});

Deno.test("a node goes on among clients that flood it, hang, and leave in the middle", async () => {
  await using directory = await TempDirectory.make();
  await using primary = await startPrimary(directory);
  const path = directory.join("p.control");
  const encoder = new TextEncoder();
  const clients: Deno.Conn[] = [];
  const writing: Promise<unknown>[] = [];
  const texts = [
    `{"request":"status"}\n`.repeat(100_000),
    "x".repeat(1 << 20),
    "\n".repeat(1 << 16),
    `{"request":`,
    "",
  ];
  for (let round = 0; round < 8; round++) {
    for (const text of texts) {
      const client = await Deno.connect({ transport: "unix", path });
      clients.push(client);
      writing.push(client.write(encoder.encode(text)).catch(() => "dropped"));
      if (round % 2 === 0) client.close();
    }
  }
  // Whoever hangs keeps his place for a minute at most; these go sooner.
  for (const client of clients) {
    try {
      client.close();
    } catch {
      // It has gone already.
    }
  }
  await beforeDeadline("all writes to end", Promise.all(writing));
  await askUntilAnswered(path);
  await using _secondary = await startSecondary(directory);
  await askUntil(directory.join("copy.fs"), ({ lastTid }) => lastTid === LAST_TID);
  assert.equal((await primary.stop()).code, 0);
  assert(!primary.stderr.items.some((line) => /ERROR|bug/.test(line)), primary.stderr.items.join("\n"));
});

/** Until the node has noticed that the others have gone, it may have no place for one more. */
async function askUntilAnswered(path: string): Promise<void> {
  async function look(): Promise<void> {
    while ((await ask(path)).code !== 0);
  }
  await beforeDeadline("an answer", look());
}
