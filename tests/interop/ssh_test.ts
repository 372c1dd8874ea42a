/** Copying over a real ssh, with zrs on the other machine and with nothing but its own tools. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { farPlaceOf } from "../../lib/cli/sync/ssh_place.ts";
import { parseSshTarget } from "../../lib/cli/sync/ssh_source.ts";
import { NotFoundError, UnavailableError, UsageError } from "../../lib/errors.ts";
import { Storage } from "../../lib/filestorage/mod.ts";
import { systemHost } from "../../lib/host/mod.ts";
import type { Connection, Network } from "../../lib/ports/mod.ts";
import {
  connectFar,
  type Far,
  type FarOptions,
  type FarPlace,
  type FarSyncResult,
  syncFarFile,
} from "../../lib/replica/mod.ts";
import { CollectedLog } from "../kit/collected_log.ts";
import { dataFs } from "../kit/data_fs.ts";
import { beforeDeadline } from "../kit/feed.ts";
import { startSecondary } from "../kit/node.ts";
import { peerTest, ZodbWriter } from "../kit/peers.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { NO_SSHD, Sshd, type SshdOptions, sshTest } from "../kit/sshd.ts";
import { TempDirectory } from "../kit/temp.ts";

const MAIN = fileURLToPath(new URL("../../main.ts", import.meta.url));
const host = systemHost();

const { bytes: BYTES, transactions: TRANSACTIONS } = dataFs(Array.from({ length: 300 }, (_, at) => ({
  tid: 0x03f5945817777700n + BigInt(at),
  records: [{ oid: BigInt(at % 20), data: `${at} `.padEnd(1 + (at * 7919) % 4000, "x") }],
})));
const LAST_TID = 0x03f5945817777700n + 299n;

function placeOf(source: string, ssh: string): FarPlace {
  const target = parseSshTarget(source);
  assert.ok(target !== undefined);
  return farPlaceOf(target, ssh, { isTerminal: () => false });
}

async function reach(source: string, ssh: string, options: Partial<FarOptions> = {}): Promise<Far> {
  const place = placeOf(source, ssh);
  return await beforeDeadline(
    `an answer from ${source}`,
    connectFar({ ...host, log: new CollectedLog() }, place, {
      by: "auto",
      blobs: "refuse",
      mayAsk: false,
      ...options,
    }),
  );
}

/** Brings a copy up to date with the other machine's tools. */
async function copy(far: Far, path: string): Promise<FarSyncResult> {
  assert.ok(far.kind === "tools");
  const { disk, network, clock, random } = host;
  await using storage = await Storage.open(disk, path);
  const ports = { disk, network, clock, random, log: new CollectedLog() };
  const { signal } = new AbortController();
  try {
    return await syncFarFile(ports, storage, far.file, { blobs: { choice: "refuse" }, full: true }, signal);
  } finally {
    await storage.cut();
  }
}

/** A far machine with a database, and a copy of the first transactions here. */
async function scene(options: SshdOptions = {}) {
  await using owned = new AsyncDisposableStack();
  const directory = owned.use(await TempDirectory.make());
  const sshd = owned.use(await Sshd.start(options));
  const [far, near] = [directory.join("Data.fs"), directory.join("copy.fs")];
  Deno.writeFileSync(far, BYTES);
  Deno.writeFileSync(near, BYTES.subarray(0, TRANSACTIONS[100]!.end));
  const kept = owned.move();
  return { directory, sshd, far, near, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

/** A directory in which a command is zrs. */
function installZrs(
  directory: TempDirectory,
  script = `exec ${Deno.execPath()} run --allow-all ${MAIN} "$@"`,
): string {
  Deno.mkdirSync(directory.join("bin"));
  Deno.writeTextFileSync(directory.join("bin", "zrs"), `#!/bin/sh\n${script}\n`);
  Deno.chmodSync(directory.join("bin", "zrs"), 0o755);
  return `${directory.join("bin")}:/usr/bin:/bin`;
}

/** A network that leads over one connection that is there already, and then nowhere. */
function only(connection: Connection): Network {
  let next: Connection | undefined = connection;
  return {
    connect() {
      const connection = next;
      next = undefined;
      if (connection === undefined) return Promise.reject(new UnavailableError("There was one connection"));
      return Promise.resolve(connection);
    },
    listen: () => Promise.reject(new UsageError("Nobody listens")),
  };
}

/** Passes one connection on to a port of this machine, and cuts it after so many bytes have come from there. */
class CuttingRelay implements Disposable {
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #connections: Deno.Conn[] = [];

  constructor(to: number, bytes: number) {
    void this.#pass(to, bytes);
  }

  get port(): number {
    return (this.#listener.addr as Deno.NetAddr).port;
  }

  async #pass(to: number, bytes: number): Promise<void> {
    const near = await this.#listener.accept();
    const far = await Deno.connect({ hostname: "127.0.0.1", port: to });
    this.#connections.push(near, far);
    near.readable.pipeTo(far.writable).catch(() => {});
    const buffer = new Uint8Array(65536);
    for (let left = bytes; left > 0;) {
      const count = await far.read(buffer.subarray(0, left));
      if (count === null) break;
      for (let done = 0; done < count;) done += await near.write(buffer.subarray(done, count));
      left -= count;
    }
    this[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    for (const each of [this.#listener, ...this.#connections.splice(0)]) {
      try {
        each.close();
      } catch {
        // closed before
      }
    }
  }
}

sshTest("nothing needs to be installed on the other machine", async () => {
  await using place = await scene();
  using far = await reach(place.sshd.at(place.far), place.sshd.ssh);
  const result = await copy(far, place.near);
  assert.ok(result.kind === "complete");
  assert.deepEqual([result.transactions, result.isDurableThere], [199, true]);
  assertSameBytes(Deno.readFileSync(place.near), BYTES);
});

for (const shell of ["bash", "dash", "tcsh", "fish", "zsh", "busybox sh"]) {
  const isMissing = !new Deno.Command("sh", { args: ["-c", `command -v ${shell}`] }).outputSync().success;
  sshTest(`any login shell will do, also one that greets: ${shell}`, async () => {
    const forceCommand = `echo 'Welcome to the jungle'; exec ${shell} -c "$SSH_ORIGINAL_COMMAND"`;
    await using place = await scene({ forceCommand, banner: "No trespassing\n" });
    using far = await reach(place.sshd.at(place.far), place.sshd.ssh);
    assert.equal((await copy(far, place.near)).kind, "complete");
    assertSameBytes(Deno.readFileSync(place.near), BYTES);
  }, { ignore: isMissing });
}

sshTest("where zrs is on the PATH there, it serves its native stream", async () => {
  await using installed = await TempDirectory.make();
  await using place = await scene({
    path: installZrs(installed),
    forceCommand: 'echo Hi; exec sh -c "$SSH_ORIGINAL_COMMAND"',
  });
  using far = await reach(place.sshd.at(place.far), place.sshd.ssh);
  assert.ok(far.kind === "zrs");
  assert.equal(far.version, "0.1.0");
  await using secondary = await startSecondary(
    { path: place.near, replicateFrom: "far:1", protocol: "native" },
    { network: only(far.connection) },
  );
  await secondary.waitForTid(LAST_TID);
  await secondary.stop();
  assertSameBytes(Deno.readFileSync(place.near), BYTES);
});

sshTest("its tools do where they are asked for, or where what is called zrs there is none", async () => {
  await using installed = await TempDirectory.make();
  await using place = await scene({ path: installZrs(installed) });
  {
    using far = await reach(place.sshd.at(place.far), place.sshd.ssh, { by: "tools" });
    assert.equal(far.kind, "tools");
  }
  // What it prints before zrs does would come before the stream, too.
  const scripts = ["echo '$!'; exit 1", "echo Loading modules; echo zrs 0.1.0", "echo ZRS 3.2", "cat"];
  for (const script of scripts) {
    Deno.writeTextFileSync(installed.join("bin", "zrs"), `#!/bin/sh\n${script}\n`);
    using far = await reach(place.sshd.at(place.far), place.sshd.ssh);
    assert.equal(far.kind, "tools", script);
    await assert.rejects(
      reach(place.sshd.at(place.far), place.sshd.ssh, { by: "zrs" }),
      /Cannot use zrs on 127.0.0.1: zrs --version must print its version there and nothing else/,
    );
  }
});

sshTest("a zrs there that does not know how to serve so is told by its own words", async () => {
  await using installed = await TempDirectory.make();
  const script =
    `case $1 in --version) echo "zrs 0.0.1";; *) echo "zrs primary: no such address: -" >&2; exit 2;; esac`;
  await using place = await scene({ path: installZrs(installed, script) });
  using far = await reach(place.sshd.at(place.far), place.sshd.ssh);
  assert.ok(far.kind === "zrs");
  await assert.rejects(far.connection.read(new Uint8Array(10)), (error) => {
    return error instanceof UnavailableError &&
      /exit code 2: zrs primary: no such address/.test(error.message);
  });
});

sshTest("what hinders is told in ssh's own words, without a question", async () => {
  await using place = await scene();
  const { sshd, far } = place;
  const source = sshd.at(far);
  const refused: [source: string, ssh: string, words: RegExp][] = [
    [
      source,
      sshd.sshWith({ key: "other" }),
      /ssh ended with exit code 255: .*Permission denied \(publickey\)/,
    ],
    [source, sshd.sshWith({ known: "none" }), /Host key verification failed/],
    [`no-such-host.invalid:${far}`, sshd.ssh, /no-such-host\.invalid.*[Cc]ould not resolve/],
    [source, `${sshd.ssh} -o Port=1`.replace(/-p \d+/, ""), /[Cc]onnection refused/],
    [source, `${sshd.ssh} -o NoSuchOption=1`, /[Bb]ad configuration option/],
  ];
  for (const [from, ssh, words] of refused) {
    await assert.rejects(
      reach(from, ssh),
      (error) => error instanceof UnavailableError && words.test(error.message),
    );
  }
  await assert.rejects(reach(source, "no-such-ssh-program"), UsageError);
  await assert.rejects(reach(sshd.at(`${far}-none`), sshd.ssh), NotFoundError);
  await assert.rejects(reach(sshd.at(place.directory.path), sshd.ssh), /it is a directory/);
  assertSameBytes(Deno.readFileSync(place.near), BYTES.subarray(0, TRANSACTIONS[100]!.end));
});

sshTest("a path with anything in it is found", async () => {
  await using place = await scene();
  for (const name of ["a b", "it's", "-f", "line\nfeed", "$(id)"]) {
    const path = place.directory.join(name);
    Deno.writeFileSync(path, BYTES);
    using far = await reach(place.sshd.at(path), place.sshd.ssh);
    assert.ok(far.kind === "tools" && far.file.size === BYTES.length);
  }
});

sshTest("a signal ends it at any time", async () => {
  await using place = await scene({ forceCommand: "sleep 1000" });
  const stop = new AbortController();
  const reaching = reach(place.sshd.at(place.far), place.sshd.ssh, { signal: stop.signal });
  stop.abort();
  await assert.rejects(reaching, UnavailableError);
});

sshTest("when the line is cut half way, what was whole is kept, and the next time goes on", async () => {
  await using place = await scene();
  Deno.removeSync(place.near);
  const large = dataFs(Array.from({ length: 40 }, (_, at) => ({
    tid: 0x03f5945817777700n + BigInt(at),
    records: [{ oid: BigInt(at), data: "x".repeat(1_000_000) }],
  })));
  Deno.writeFileSync(place.far, large.bytes);
  {
    using relay = new CuttingRelay(place.sshd.port, 9_000_000);
    using far = await reach(place.sshd.at(place.far), place.sshd.ssh.replace(/-p \d+/, `-p ${relay.port}`));
    await assert.rejects(copy(far, place.near), UnavailableError);
    const copied = Deno.readFileSync(place.near);
    assert.ok(copied.length > 4 && large.transactions.some(({ end }) => end === copied.length));
    assertSameBytes(copied, large.bytes.subarray(0, copied.length));
  }
  using far = await reach(place.sshd.at(place.far), place.sshd.ssh);
  assert.equal((await copy(far, place.near)).kind, "complete");
  assertSameBytes(Deno.readFileSync(place.near), large.bytes);
});

peerTest("a copy follows a real writer over ssh while it commits, until it packs", ["zodb55"], async () => {
  if (NO_SSHD !== undefined) return;
  await using place = await scene();
  Deno.removeSync(place.near);
  await using writer = await ZodbWriter.start("zodb55", { path: place.far, create: true });
  for (let n = 0; n < 50; n++) await writer.commit([[`key${n % 7}`, 5000]]);
  const sync = async () => {
    using far = await reach(place.sshd.at(place.far), place.sshd.ssh);
    return await copy(far, place.near);
  };
  for (let round = 0; round < 3; round++) {
    let isDone = false;
    const committing = (async () => {
      for (let n = 0; !isDone; n++) await writer.commit([[`key${n % 7}`, 5000]]);
    })();
    const result = await sync();
    isDone = true;
    await committing;
    assert.ok(result.kind === "complete");
    const copied = Deno.readFileSync(place.near);
    assertSameBytes(copied, Deno.readFileSync(place.far).subarray(0, copied.length));
  }
  await writer.pack();
  assert.equal((await sync()).kind, "packed");
});
