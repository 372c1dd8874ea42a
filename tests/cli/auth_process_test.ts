/** Both commands as processes with a shared secret: end to end, who is kept out, and a new secret at SIGHUP. */

import assert from "node:assert/strict";
import { equalBytes } from "../../lib/bytes/mod.ts";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { type ChildProcess, startZrs } from "../kit/process.ts";
import { TempDirectory } from "../kit/temp.ts";
import { sizeOf, waitForChanges, ZrsProcess } from "../interop/processes.ts";

const FILE = dataFs(Array.from({ length: 200 }, (_, index): TransactionDescription => ({
  tid: 0x3f0000000000001n + BigInt(index),
  records: [{ oid: BigInt(index % 30), data: `revision ${index} `.repeat(500) }],
}))).bytes;

async function secretFile(directory: TempDirectory, name: string, text: string): Promise<string> {
  const path = directory.join(name);
  await Deno.writeTextFile(path, `${text}\n`, { mode: 0o600 });
  return path;
}

async function hasReplicated(directory: TempDirectory, name: string): Promise<void> {
  const path = directory.join(name);
  const isLike = () => sizeOf(path) === FILE.length && equalBytes(Deno.readFileSync(path), FILE);
  await waitForChanges(`${name} to be like Data.fs`, directory.path, isLike);
}

async function says(process: ChildProcess, pattern: RegExp): Promise<void> {
  await process.stderr.waitFor(`${pattern}`, (line) => pattern.test(line));
}

Deno.test("processes with the same secret replicate, others are kept out until SIGHUP lets them in", async () => {
  await using directory = await TempDirectory.make();
  await Deno.writeFile(directory.join("Data.fs"), FILE);
  const good = await secretFile(directory, "good", "0123456789abcdef");
  const bad = await secretFile(directory, "bad", "fedcba9876543210");
  const args = ["--replicate-to", "0.0.0.0:0", "--auth-file", good];
  await using primary = await ZrsProcess.start(directory, "primary", directory.join("Data.fs"), ...args);
  await says(
    primary.process,
    /WARNING Whoever can listen on the network reads .* --auth-file encrypts nothing/,
  );
  const secondary = (name: string, ...more: string[]) => {
    const from = ["--replicate-from", primary.address.replace("0.0.0.0", "127.0.0.1"), "--retry-max", "0.1"];
    return startZrs(["secondary", directory.join(name), ...from, ...more]);
  };
  await using friend = secondary("friend.fs", "--auth-file", good);
  await hasReplicated(directory, "friend.fs");

  await using plain = secondary("plain.fs");
  await says(plain, /ERROR .* refused: this source demands a secret, .* start it with --auth-file/);
  await plain.stop();
  await using other = secondary("other.fs", "--auth-file", bad);
  await says(other, /ERROR .* refused: the secondary has another secret than this source/);
  await says(primary.process, /WARNING 127\.0\.0\.1:\d+: dropped: .* has another secret than this source/);

  await Deno.writeTextFile(good, "short");
  primary.process.kill("SIGHUP");
  await says(primary.process, /ERROR Cannot use .*good as the secret: .* The secret in use stays/);
  await Deno.copyFile(bad, good);
  primary.process.kill("SIGHUP");
  await says(primary.process, /INFO Read the secret anew/);
  await hasReplicated(directory, "other.fs");
  for (const each of [friend, other]) assert.equal((await each.stop()).code, 0);
  assert.equal(await primary.stop(), 0);
});

Deno.test("comparing with a node whose secret is not known fails, and names the node", async () => {
  await using directory = await TempDirectory.make();
  await Deno.writeFile(directory.join("Data.fs"), FILE);
  await Deno.writeFile(directory.join("copy.fs"), FILE);
  const good = await secretFile(directory, "good", "0123456789abcdef");
  const args = ["--replicate-to", "127.0.0.1:0", "--auth-file", good];
  await using primary = await ZrsProcess.start(directory, "primary", directory.join("Data.fs"), ...args);
  const { address } = primary;
  for (
    const [command, ...more] of [
      ["verify", directory.join("copy.fs"), `zrs://${address}`],
      ["rewind", directory.join("copy.fs"), "--from", address, "--dry-run"],
    ] as const
  ) {
    await using process = startZrs([command, ...more]);
    assert.equal((await process.exited).code, 4);
    const [line, ...others] = process.stderr.items;
    assert.deepEqual(others, []);
    const words = `Cannot compare with ${address}: refused: this source demands a secret, `;
    assert(line?.startsWith(`zrs ${command}: ${words}`), line);
  }
});

Deno.test("a bad secret ends a command at once with 2, and names the file", async () => {
  await using directory = await TempDirectory.make();
  await Deno.writeFile(directory.join("Data.fs"), FILE);
  const short = await secretFile(directory, "short", "0123456789abcde");
  const good = await secretFile(directory, "good", "0123456789abcdef");
  const from = ["secondary", directory.join("copy.fs"), "--replicate-from", "1"];
  for (
    const [args, line] of [
      [
        ["primary", directory.join("Data.fs"), "--replicate-to", "0", "--auth-file", short],
        /^zrs primary: Cannot use .*short as the secret: .* at least 16 bytes, and has 15; make one with: openssl/,
      ],
      [[...from, "--auth-file", directory.join("none")], /^zrs secondary: Cannot .*none/],
      [
        [...from, "--auth-file", good, "--protocol", "zrs2"],
        /^zrs secondary: Cannot use --auth-file with .* zrs2/,
      ],
    ] as const
  ) {
    await using process = startZrs(args);
    assert.equal((await process.exited).code, 2);
    assert.equal(process.stderr.items.length, 1);
    assert.match(process.stderr.items[0]!, line);
  }
  assert.equal(sizeOf(directory.join("copy.fs")), 0);
});
