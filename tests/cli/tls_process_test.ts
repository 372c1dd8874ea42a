/** Both commands as processes that talk over TLS: end to end, who is kept out, and new certificates at SIGHUP. */

import assert from "node:assert/strict";
import { equalBytes } from "../../lib/bytes/mod.ts";
import { Authority, type Certificate, OPENSSL, WITHOUT_OPENSSL } from "../kit/certificates.ts";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { type ChildProcess, startZrs } from "../kit/process.ts";
import { TempDirectory } from "../kit/temp.ts";
import { sizeOf, waitForChanges, ZrsProcess } from "../interop/processes.ts";

const FILE = dataFs(Array.from({ length: 200 }, (_, index): TransactionDescription => ({
  tid: 0x3f0000000000001n + BigInt(index),
  records: [{ oid: BigInt(index % 30), data: `revision ${index} `.repeat(500) }],
}))).bytes;

function tlsTest(
  name: string,
  test: (directory: TempDirectory, authority: Authority) => Promise<void>,
): void {
  Deno.test(`${name}${WITHOUT_OPENSSL}`, { ignore: !OPENSSL }, async () => {
    await using directory = await TempDirectory.make();
    await Deno.writeFile(directory.join("Data.fs"), FILE);
    await test(directory, await Authority.make(directory.path, "authority"));
  });
}

function tls({ cert, key }: Certificate, { ca }: { readonly ca: string }): string[] {
  return ["--tls-cert", cert, "--tls-key", key, "--tls-ca", ca];
}

async function hasReplicated(directory: TempDirectory, name: string): Promise<void> {
  const path = directory.join(name);
  const isLike = () => sizeOf(path) === FILE.length && equalBytes(Deno.readFileSync(path), FILE);
  await waitForChanges(`${name} to be like Data.fs`, directory.path, isLike);
}

async function says(process: ChildProcess, pattern: RegExp): Promise<void> {
  await process.stderr.waitFor(`${pattern}`, (line) => pattern.test(line));
}

tlsTest("a chain replicates over TLS, through TCP and a Unix socket", async (directory, authority) => {
  const one = tls(await authority.sign("one", { names: "DNS:db1.example.com" }), authority);
  const two = tls(await authority.sign("two"), authority);
  const to = ["--replicate-to", "0.0.0.0:0"];
  await using primary = await ZrsProcess.start(
    directory,
    "primary",
    directory.join("Data.fs"),
    ...to,
    ...one,
  );
  const from = ["--replicate-from", primary.address.replace("0.0.0.0", "127.0.0.1")];
  const socket = directory.join("socket");
  await using middle = await ZrsProcess.start(
    directory,
    ...["secondary", directory.join("middle.fs"), ...from, "--replicate-to", socket],
    ...["--tls-name", "db1.example.com", ...two],
  );
  await using last = await ZrsProcess.start(
    directory,
    ...["secondary", directory.join("last.fs"), "--replicate-from", socket, ...two],
  );
  await hasReplicated(directory, "last.fs");
  for (const each of [last, middle, primary]) {
    assert.equal(await each.stop(), 0);
    assert.deepEqual(each.log.filter((line) => / (WARNING|ERROR) /.test(line)), []);
  }
});

tlsTest(
  "who is not known is kept out, told why, and can be let in by SIGHUP",
  async (directory, authority) => {
    const strangers = await Authority.make(directory.path, "strangers");
    const [known, stranger] = [await authority.sign("known"), await strangers.sign("stranger")];
    const args = ["--replicate-to", "0", ...tls(known, authority)];
    await using primary = await ZrsProcess.start(directory, "primary", directory.join("Data.fs"), ...args);
    const secondary = (name: string, ...more: string[]) => {
      const from = ["--replicate-from", primary.address, "--retry-max", "0.1"];
      return startZrs(["secondary", directory.join(name), ...from, ...more]);
    };
    await using plain = secondary("plain.fs");
    await says(primary.process, /WARNING 127\.0\.0\.1:\d+: dropped: it speaks no TLS/);
    await plain.stop();
    await using other = secondary("other.fs", ...tls(stranger, strangers));
    await says(other, /WARNING Cannot connect to .* by TLS: its certificate is not signed by our authority/);
    await other.stop();

    // The stranger knows us, and we do not know it.
    const both = directory.join("both.crt");
    await Deno.writeTextFile(both, Deno.readTextFileSync(authority.ca) + Deno.readTextFileSync(strangers.ca));
    await using third = secondary("third.fs", ...tls(stranger, authority));
    await says(
      primary.process,
      /WARNING 127\.0\.0\.1:\d+: dropped: its certificate is not signed by our authority/,
    );
    await says(third, /WARNING .* it may not accept our certificate/);

    const good = await Deno.readTextFile(authority.ca);
    await Deno.writeTextFile(authority.ca, "no certificate");
    primary.process.kill("SIGHUP");
    await says(primary.process, /ERROR .*authority\.crt.*: there is no certificate in it; .* in use stay/);
    await using friend = secondary("friend.fs", ...tls(known, { ca: both }));
    await hasReplicated(directory, "friend.fs");

    await Deno.writeTextFile(authority.ca, good + await Deno.readTextFile(strangers.ca));
    primary.process.kill("SIGHUP");
    await says(primary.process, /INFO Read certificate, key and authority anew/);
    await hasReplicated(directory, "third.fs");
    for (const each of [friend, third]) assert.equal((await each.stop()).code, 0);
    assert.equal(await primary.stop(), 0);
  },
);

for (const [speaker, isPrimaryByTls] of [["primary", true], ["secondary", false]] as const) {
  tlsTest(
    `where only the ${speaker} speaks TLS, both logs say so and what to do`,
    async (directory, authority) => {
      const byTls = tls(await authority.sign("one"), authority);
      const [primaryArgs, secondaryArgs] = isPrimaryByTls ? [byTls, []] : [[], byTls];
      const data = directory.join("Data.fs");
      await using primary = await ZrsProcess.start(
        directory,
        ...["primary", data, "--replicate-to", "0", ...primaryArgs],
      );
      for (const protocol of ["auto", "native", "zrs2"]) {
        await using secondary = startZrs([
          ...["secondary", directory.join(`${protocol}.fs`), "--replicate-from", primary.address],
          ...["--protocol", protocol, "--retry-max", "0.1", ...secondaryArgs],
        ]);
        await says(
          secondary,
          isPrimaryByTls
            ? / WARNING .*this looks like a TLS connection: both ends must use TLS, or neither/
            : / WARNING .*it may speak no TLS \(both ends must use TLS, or neither\)/,
        );
        if (isPrimaryByTls) {
          await says(
            secondary,
            / ERROR .*3 connections in a row .* cannot be taken: .*a TLS connection: both ends must use TLS/,
          );
        }
        if (isPrimaryByTls && protocol === "auto") {
          const line = secondary.stderr.items.find((each) => each.includes("going on with zrs2"));
          assert.match(line ?? "", /this looks like a TLS connection: both ends must use TLS, or neither/);
        }
        assert.equal((await secondary.stop()).code, 0);
      }
      await says(
        primary.process,
        isPrimaryByTls
          ? / WARNING .* dropped: it speaks no TLS: both ends must use TLS, or neither/
          : / WARNING .* dropped: .*this looks like a TLS connection: both ends must use TLS, or neither/,
      );
      assert.equal(await primary.stop(), 0);
    },
  );
}

tlsTest("rewind asks a source over TLS, by another name, too", async (directory, authority) => {
  const one = tls(await authority.sign("one", { names: "DNS:db1.example.com" }), authority);
  const two = tls(await authority.sign("two"), authority);
  const data = directory.join("Data.fs");
  await using primary = await ZrsProcess.start(directory, "primary", data, "--replicate-to", "0", ...one);
  const copy = directory.join("copy.fs");
  await Deno.writeFile(copy, FILE);
  for (
    const [args, code] of [
      [[], 4],
      [two, 4], // the certificate is not for 127.0.0.1
      [[...two, "--tls-name", "db1.example.com"], 0],
    ] as const
  ) {
    await using rewind = startZrs(["rewind", copy, "--from", primary.address, ...args]);
    assert.equal((await rewind.exited).code, code, rewind.stderr.items.join("\n"));
  }
});

tlsTest("bad files end a command at once with 2, and name the file", async (directory, authority) => {
  const { cert, key } = await authority.sign("known");
  const missing = directory.join("missing.crt");
  const data = directory.join("Data.fs");
  for (
    const [args, line] of [
      [tls({ cert, key }, { ca: missing }), /^zrs primary: Cannot read .*missing\.crt, the authority: /],
      [["--tls-cert", cert], /^zrs primary: Cannot encrypt without --tls-key and --tls-ca; give all of /],
    ] as const
  ) {
    await using process = startZrs(["primary", data, "--replicate-to", "0", ...args]);
    assert.equal((await process.exited).code, 2);
    assert.equal(process.stderr.items.length, 1);
    assert.match(process.stderr.items[0]!, line);
  }
});
