/** `zrs replica-sync` as a process: how it connects, what it says it would do, and disks that do not take it. */
import assert from "node:assert/strict";
import { Authority, OPENSSL, WITHOUT_OPENSSL } from "../kit/certificates.ts";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { type Ended, runZrs, startZrs } from "../kit/process.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { CAN_MOUNT, makeReadOnly, withSmallDisk } from "../kit/small_disk.ts";
import { TempDirectory } from "../kit/temp.ts";
import { transactionsOf } from "../kit/transactions_of.ts";
import { ZrsProcess } from "../interop/processes.ts";

/** 400 KB. */
const HISTORY = Array.from({ length: 40 }, (_, index): TransactionDescription => ({
  tid: 0x3f0000000000001n + BigInt(index),
  user: "jim",
  description: `change ${index}`,
  records: [{ oid: BigInt(index % 7), data: `revision ${index} `.repeat(700) }],
}));
const FILE = dataFs(HISTORY).bytes;
const BEGINNING = dataFs(HISTORY.slice(0, 30)).bytes;

async function sync(...args: string[]): Promise<Ended> {
  return await runZrs("replica-sync", ...args);
}

function assertFails({ code, out, err }: Ended, expected: number, words: RegExp): void {
  assert.deepEqual([code, out], [expected, ""], err);
  assert.match(err, words);
  assert.match(err, /^zrs replica-sync: [^\n]*$/);
}

async function sourceIn(directory: TempDirectory): Promise<string> {
  const path = directory.join("Data.fs");
  await Deno.writeFile(path, FILE);
  return path;
}

Deno.test(
  `a copy is made over TLS, and a stranger gets none${WITHOUT_OPENSSL}`,
  { ignore: !OPENSSL },
  async () => {
    await using directory = await TempDirectory.make();
    const [source, copy] = [await sourceIn(directory), directory.join("copy.fs")];
    const authority = await Authority.make(directory.path, "authority");
    const stranger = await Authority.make(directory.path, "stranger");
    const files = async (signer: Authority, name: string, names?: string) => {
      const { cert, key } = await signer.sign(name, names === undefined ? {} : { names });
      return ["--tls-cert", cert, "--tls-key", key, "--tls-ca", signer.ca];
    };
    const own = await files(authority, "primary", "DNS:db1.example.com");
    await using primary = await ZrsProcess.start(directory, "primary", source, "--replicate-to", "0", ...own);
    const url = `zrs://${primary.address}`;
    const name = ["--tls-name", "db1.example.com"];
    assertFails(await sync(url, copy), 4, /Cannot copy from|Cannot compare with/);
    const strange = await sync(url, copy, ...name, ...await files(stranger, "other"));
    assertFails(strange, 4, /certificate/);
    assertFails(
      await sync(url, copy, ...await files(authority, "nobody")),
      4,
      /db1\.example\.com|127\.0\.0\.1/,
    );
    assert.throws(() => Deno.statSync(copy), Deno.errors.NotFound);
    const { code, err } = await sync(url, copy, ...name, ...await files(authority, "replica"));
    assert.deepEqual([code, err], [0, ""]);
    assertSameBytes(Deno.readFileSync(copy), FILE);
  },
);

Deno.test("a copy is made through a Unix socket by whoever has the secret, and by nobody else", async () => {
  await using directory = await TempDirectory.make();
  const [source, copy, socket] = [
    await sourceIn(directory),
    directory.join("copy.fs"),
    directory.join("socket"),
  ];
  const [good, bad] = [directory.join("good"), directory.join("bad")] as const;
  await Deno.writeTextFile(good, "0123456789abcdef\n", { mode: 0o600 });
  await Deno.writeTextFile(bad, "fedcba9876543210\n", { mode: 0o600 });
  await Deno.writeFile(copy, BEGINNING);
  const args = ["--replicate-to", socket, "--auth-file", good];
  await using _primary = await ZrsProcess.start(directory, "primary", source, ...args);
  const url = `zrs+unix:${socket}`;
  assertFails(await sync(url, copy), 4, /this source demands a secret/);
  assertFails(await sync(url, copy, "--auth-file", bad), 4, /another secret/);
  assertSameBytes(Deno.readFileSync(copy), BEGINNING);
  const { code, out, err } = await sync(url, copy, "--auth-file", good, "--check", "full", "--json");
  assert.deepEqual([code, err], [0, ""]);
  const { transactions, check } = JSON.parse(out);
  assert.deepEqual([transactions, check], [10, { kind: "full", transactions: 30, obstacle: null }]);
  assertSameBytes(Deno.readFileSync(copy), FILE);
});

Deno.test("--dry-run says what would be done and writes nothing, not even a lock", async () => {
  await using directory = await TempDirectory.make();
  const source = await sourceIn(directory);
  const packed = dataFs([
    ...HISTORY.slice(20, 35).map((each) => ({ ...each, status: "p" as const })),
    ...HISTORY.slice(35),
  ]);
  Deno.mkdirSync(directory.join("copies"));
  const copy = directory.join("copies", "Data.fs");
  const names = () => [...Deno.readDirSync(directory.join("copies"))].map(({ name }) => name).sort();
  const dry = async (...args: string[]) => {
    const { code, out, err } = await sync(source, copy, "--dry-run", ...args);
    assert.deepEqual([code, err], [0, ""]);
    return out;
  };
  const last = "03f0000000000028";
  assert.match(
    await dry(),
    new RegExp(`^Would append to .* what it lacks of .*, up to ${last}: \\d+\\.\\d KiB$`),
  );
  assert.deepEqual(names(), []);

  await Deno.writeFile(copy, BEGINNING);
  const facts = JSON.parse(await dry("--json"));
  assert.deepEqual(
    { would: facts.would, bytes: facts.bytes, until: facts.until, check: facts.check },
    {
      would: "append",
      bytes: FILE.length - BEGINNING.length,
      until: last,
      check: { kind: "quick", transactions: 16, obstacle: null },
    },
  );
  assert.equal(JSON.parse(await dry("--json", "--until", "03f0000000000005")).would, "nothing");
  await Deno.writeFile(source, packed.bytes);
  assert.match(await dry(), /^Would make .* a complete new copy of .*: it has been packed$/);
  await Deno.writeFile(copy, packed.bytes);
  assert.match(await dry(), /: nothing would be copied$/);

  await Deno.writeFile(source, BEGINNING);
  await Deno.writeFile(copy, FILE);
  assertFails(
    await sync(source, copy, "--dry-run"),
    3,
    /ahead: .*; the last common one is 03f000000000001e .* "jim: change 29"; then .* has .* "jim: change 30"/,
  );
  assertSameBytes(Deno.readFileSync(copy), FILE);
  assert.deepEqual(names(), ["Data.fs"]);
});

Deno.test("histories that part are told to programs, too", async () => {
  await using directory = await TempDirectory.make();
  const [source, copy] = [await sourceIn(directory), directory.join("copy.fs")];
  const other = HISTORY.slice(30).map((each) => ({
    ...each,
    tid: each.tid + 100n,
    description: "elsewhere",
  }));
  const bytes = dataFs([...HISTORY.slice(0, 30), ...other]).bytes;
  await Deno.writeFile(copy, bytes);
  // Later than all of it: then it is forked, and not ahead.
  await Deno.writeFile(source, dataFs([...HISTORY, { tid: 0x3f0000000000f00n, records: [] }]).bytes);
  const { code, out } = await sync(source, copy, "--json");
  const { divergence, exitCode, complete } = JSON.parse(out);
  assert.deepEqual([code, exitCode, complete], [3, 3, false]);
  const words = ["common", "here", "there"].map((
    which,
  ) => [divergence[which].tid, divergence[which].description]);
  assert.deepEqual(words, [
    ["03f000000000001e", "change 29"],
    ["03f0000000000083", "elsewhere"],
    ["03f000000000001f", "change 30"],
  ]);
  assertSameBytes(Deno.readFileSync(copy), bytes);
});

Deno.test({
  name: "a disk without room is told before it is full, and one that fills up leaves a valid copy",
  ignore: !CAN_MOUNT,
  async fn() {
    await using directory = await TempDirectory.make();
    const source = await sourceIn(directory);
    await withSmallDisk(directory.path, 300, async (small) => {
      const copy = `${small}/Data.fs`;
      assertFails(await sync(source, copy), 6, /\d+ bytes are needed, \d+ are free/);
      assert.deepEqual([...Deno.readDirSync(small)], []);
      // A primary by zrs2 does not say how much will come.
      await using primary = await ZrsProcess.start(directory, "primary", source, "--replicate-to", "0");
      const full = await sync(`zrs://${primary.address}`, copy, "--protocol", "zrs2");
      assertFails(full, 6, /the disk is full/);
      const kept = transactionsOf(Deno.readFileSync(copy)).map(({ tid }) => tid);
      assert.deepEqual(kept, HISTORY.slice(0, kept.length).map(({ tid }) => tid));
    });
  },
});

Deno.test({
  name: "a copy on a read-only file system is refused in words, and only looked at by --dry-run",
  ignore: !CAN_MOUNT,
  async fn() {
    await using directory = await TempDirectory.make();
    const source = await sourceIn(directory);
    await withSmallDisk(directory.path, 1000, async (small) => {
      const copy = `${small}/Data.fs`;
      await Deno.writeFile(copy, BEGINNING);
      makeReadOnly(small);
      assertFails(await sync(source, copy), 2, /read-only/);
      assertFails(await sync(source, `${small}/other.fs`), 2, /read-only/);
      const { code, out } = await sync(source, copy, "--dry-run");
      assert.equal(code, 0);
      assert.match(out, /^Would append/);
      assertSameBytes(Deno.readFileSync(copy), BEGINNING);
    });
  },
});

Deno.test("a directory in the copy's or the source's place is told, and nothing is put into it", async () => {
  await using directory = await TempDirectory.make();
  const source = await sourceIn(directory);
  const folder = directory.join("var");
  Deno.mkdirSync(folder);
  assertFails(await sync(source, folder), 2, /var: it is a directory; .*usually Data\.fs/);
  assertFails(
    await sync(folder, directory.join("copy.fs")),
    2,
    /var: it must be a regular file, and is a directory/,
  );
  assertFails(await sync(source, directory.join("gone", "Data.fs")), 2, /there is no directory .*gone/);
  assert.deepEqual([...Deno.readDirSync(folder)], []);
  assert.deepEqual([...Deno.readDirSync(directory.path)].map(({ name }) => name).sort(), ["Data.fs", "var"]);
});

Deno.test("whatever links lead from the copy to the source, it is not copied onto itself", async () => {
  await using directory = await TempDirectory.make();
  const source = await sourceIn(directory);
  const [hard, soft, chain, folder] = ["hard.fs", "soft.fs", "chain.fs", "folder"].map((name) =>
    directory.join(name)
  ) as [string, string, string, string];
  Deno.linkSync(source, hard);
  Deno.symlinkSync("Data.fs", soft);
  Deno.symlinkSync("soft.fs", chain);
  Deno.symlinkSync(".", folder);
  for (const copy of [source, hard, soft, chain, `${folder}/Data.fs`]) {
    assertFails(await sync(source, copy), 2, /both are the same file/);
  }
  // By the network nobody sees it, but for the mark of whoever follows the file.
  await using primary = await ZrsProcess.start(directory, "primary", source, "--replicate-to", "0");
  for (const copy of [source, hard, chain]) {
    assertFails(await sync(`zrs://${primary.address}`, copy), 2, /source and copy would be the same/);
  }
  assertSameBytes(Deno.readFileSync(source), FILE);
});

Deno.test("a source that stands where a new copy would be made, or the old one kept, is not removed", async () => {
  await using directory = await TempDirectory.make();
  const copy = directory.join("copy.fs");
  for (const [suffix, ...options] of [[".sync"], [".old", "--keep-old", "--repack"]]) {
    const source = `${copy}${suffix}`;
    Deno.writeFileSync(source, FILE);
    Deno.writeFileSync(copy, BEGINNING);
    assertFails(await sync(source, copy, ...options), 2, /which would be removed, is the source/);
    assertSameBytes(Deno.readFileSync(source), FILE);
    assertSameBytes(Deno.readFileSync(copy), BEGINNING);
    const link = directory.join("link.fs");
    Deno.linkSync(source, link); // what is appended to one goes into both
    assertFails(await sync(link, copy, ...options), 2, /which would be removed, is the source/);
    Deno.removeSync(link);
    Deno.removeSync(source);
  }
});

Deno.test("of a copy whose past differs, the command that shows all of it is named as it can be given", async () => {
  await using directory = await TempDirectory.make();
  const [source, copy] = [await sourceIn(directory), directory.join("copy.fs")];
  const bytes = dataFs(HISTORY.slice(0, 30).with(4, { ...HISTORY[4]!, user: "eve" })).bytes;
  await Deno.writeFile(copy, bytes);
  await using primary = await ZrsProcess.start(directory, "primary", source, "--replicate-to", "0");
  for (const from of [source, `zrs://${primary.address}`]) {
    const ended = await sync(from, copy, "--check", "full");
    assertFails(ended, 3, /differs from it, nothing was written/);
    const [, ...named] = /; (zrs verify) (\S+) (\S+) shows all differences; /.exec(ended.err)?.slice(1) ?? [];
    assert.deepEqual(named, [copy, from]);
    await using verify = startZrs(["verify", ...named]);
    assert.equal((await verify.exited).code, 1);
    assert.match(verify.stdout.items.join("\n"), /^1 difference$/m);
  }
});

Deno.test("a file on another machine may have no name for a moment, as in a pack, and not for longer", async () => {
  await using directory = await TempDirectory.make();
  const [source, copy, bin] = [await sourceIn(directory), directory.join("copy.fs"), directory.join("bin")];
  Deno.mkdirSync(bin);
  const script = (path: string, ...lines: string[]) =>
    Deno.writeTextFileSync(path, `#!/bin/sh\n${lines.join("\n")}\n`, { mode: 0o755 });
  const FOR_EVER = 999;
  const ssh = directory.join("ssh"); // which leads to a shell of this machine
  script(ssh, `PATH='${bin}':/usr/bin:/bin; export PATH; exec sh`);
  for (const [from, to] of [[2, 3], [4, 4], [2, FOR_EVER]] as const) {
    // There is no file when it is looked for, from which time to which.
    script(
      `${bin}/ls`,
      `cd '${directory.path}'; echo >>looks; at=$(wc -l <looks)`,
      `if [ $at -ge ${from} ] && [ $at -le ${to} ]; then echo 'ls: x: No such file or directory' >&2; exit 2; fi`,
      `exec /bin/ls "$@"`,
    );
    const ended = await sync("--ssh", ssh, `db1:${source}`, copy);
    Deno.removeSync(directory.join("looks"));
    if (to === FOR_EVER) {
      assertFails(ended, 4, /Cannot copy all of db1:\S+: it is not there any more/);
      assert.throws(() => Deno.statSync(copy), Deno.errors.NotFound);
      continue;
    }
    assert.deepEqual([ended.code, ended.err], [0, ""]);
    assertSameBytes(Deno.readFileSync(copy), FILE);
    for (const path of [copy, `${copy}.index`]) Deno.removeSync(path);
  }
});
