/** Verify beside real ZODB: its files have no faults, and what its own tools find, verify finds. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { NotFoundError, PickleError } from "../../lib/errors.ts";
import {
  describe,
  type Finding,
  gravityOf,
  Verification,
  type VerifyOptions,
} from "../../lib/filestorage/mod.ts";
import { HostDisk } from "../../lib/host/disk.ts";
import { ReferenceScanner } from "../../lib/pickle/mod.ts";
import { formatOidDigits } from "../../lib/zodb/mod.ts";
import type { EnvironmentName } from "../kit/environments.ts";
import { OpenCheck, peerTest, ZodbWriter } from "../kit/peers.ts";
import { TempDirectory } from "../kit/temp.ts";
import { damagedFile } from "./damage.ts";

const ENVIRONMENTS = ["zodb55", "zodb6"] satisfies EnvironmentName[];

async function findingsOf(path: string, options: VerifyOptions = {}): Promise<Finding[]> {
  using verification = Verification.open(new HostDisk(), path);
  return await Array.fromAsync(verification.findings(options));
}

async function assertSound(path: string, what: string, options: VerifyOptions = {}): Promise<void> {
  const found = await findingsOf(path, { pickles: true, references: true, ...options });
  assert.deepEqual(found.filter((each) => gravityOf(each) !== "note").map(describe), [], what);
}

const LONG_BINPUT = 0x72;

for (const environment of ENVIRONMENTS) {
  peerTest(`nothing is found in what ${environment} writes, at any moment`, [environment], async () => {
    await using directory = await TempDirectory.make();
    const path = directory.join("Data.fs");
    const blobDir = directory.join("blobs");
    const options = { path, blobDir, fsync: false };
    const sound = (what: string) => assertSound(path, what, { blobDir });
    {
      await using writer = await ZodbWriter.start(environment, options);
      await writer.commit([["a", 10], ["b", "text"], ["c", 300]], { user: "bob", extension: { x: 1 } });
      await writer.commitMany({ count: 60, size: 50, objects: 4, keys: 40 });
      await sound("commits");
      await writer.undo([1, 2]);
      await writer.undo([1]);
      await writer.undo([1]);
      await sound("undone, also several times");
      await writer.commitBlobs([["blob", 1000], ["empty", 0]]);
      await writer.commitBlobs([["blob", 20]]);
      await writer.undo([1]);
      await sound("blobs");
      await writer.commit([["a", null], ["b", 1]]);
      await writer.store([
        { records: [{ oid: "00000000000f0000", size: 60 }] },
        { records: [{ oid: "00000000000f0000", size: 70 }, { oid: "00000000000f0000", size: 80 }] },
        { records: [{ oid: "00000000000f0000", delete: true }] },
        { records: [] },
      ]);
      await sound("deleted, and stored twice in a transaction");
      await writer.close();
    }
    await sound("closed, with an index");
    {
      await using writer = await ZodbWriter.start(environment, options);
      const { tid } = await writer.commit([["d", 10]]);
      await writer.commitMany({ count: 20, size: 50 });
      await writer.undo([1]);
      await writer.pack({ tid, gc: false });
      await sound("packed without collecting garbage");
      await writer.pack({ tid });
      await writer.commitMany({ count: 5, size: 50 });
      await sound("packed, and gone on");
      await writer.undo([1]);
      await writer.pack();
      await sound("packed wholly");
      await writer.close();
    }
    await sound("packed and closed");
  });

  peerTest(`nothing is found while ${environment} writes, undoes and packs`, [environment], async () => {
    await using directory = await TempDirectory.make();
    const path = directory.join("Data.fs");
    await using writer = await ZodbWriter.start(environment, { path, fsync: false });
    await writer.commitMany({ count: 200, size: 200, objects: 5, keys: 100 });
    let isBusy = true;
    const work = async () => {
      for (let round = 0; round < 4; round++) {
        await writer.commitMany({ count: 100, size: 5000, objects: 3, keys: 100 });
        await writer.undo([1]);
        await writer.pack();
      }
      isBusy = false;
    };
    const working = work();
    let rounds = 0;
    for (; isBusy; rounds++) {
      let verification: Verification;
      try {
        verification = Verification.open(new HostDisk(), path);
      } catch (error) {
        if (error instanceof NotFoundError) continue; // between a pack's two renames
        throw error;
      }
      using _closed = verification;
      const wait = () => new Promise<void>((resolve) => setTimeout(resolve, 10));
      const findings = await Array.fromAsync(verification.findings({ pickles: true, pause: wait, wait }));
      assert.deepEqual(findings.map(describe), [], `round ${rounds}`);
    }
    await working;
    assert(rounds > 3, `${rounds}`);
  });

  peerTest(`what fstest of ${environment} finds in damaged files, verify finds`, [environment], async () => {
    await using directory = await TempDirectory.make();
    await using check = await OpenCheck.start(environment);
    const counts = { both: 0, neither: 0, verifyOnly: 0 };
    for (const [index, bytes] of fc.sample(damagedFile, { numRuns: 500 }).entries()) {
      const path = directory.join(`${index}.fs`);
      Deno.writeFileSync(path, bytes);
      const theirs = await check.fstest(path);
      const ours = bytes.length === 0 ? [] : await findingsOf(path);
      if (theirs === null) counts[ours.length === 0 ? "neither" : "verifyOnly"]++;
      else if (bytes.length > 4) assert(ours.length > 0, `${index}: ${theirs}`);
      if (theirs !== null) counts.both++;
    }
    for (const [what, count] of Object.entries(counts)) assert(count > 10, `${what}: ${count}`);
  });

  peerTest(
    `references are those that ${environment} sees, in every form and protocol`,
    [environment],
    async () => {
      await using check = await OpenCheck.start(environment);
      const records = await check.records();
      const expected = await check.references(records);
      const scanner = new ReferenceScanner();
      let total = 0;
      for (const [index, record] of records.entries()) {
        assert(expected[index], `${index}`);
        assert.deepEqual(referencesIn(scanner, record), expected[index], `${index}`);
        total += expected[index].length;
      }
      assert(total > 300, `${total}`);
      // Of damaged ones, those that both take have the same references.
      const damaged = fc.sample(
        // At LONG_BINPUT of a large number Python reserves gigabytes.
        fc.record({
          from: fc.constantFrom(...records),
          at: fc.nat(),
          byte: fc.nat(255).filter((byte) => byte !== LONG_BINPUT),
        }).map(
          ({ from, at, byte }) => {
            const bytes = Uint8Array.fromBase64(from);
            bytes[at % bytes.length] = byte;
            return bytes.toBase64();
          },
        ),
        { numRuns: 3000 },
      );
      let both = 0;
      for (const [index, theirs] of (await check.references(damaged)).entries()) {
        const ours = referencesIn(scanner, damaged[index]!);
        if (ours === undefined || theirs === null) continue;
        assert.deepEqual(ours, theirs, `${index}: ${damaged[index]}`);
        both++;
      }
      assert(both > 500, `${both}`);
    },
  );

  peerTest(`references that lead nowhere are those of ${environment}'s fsrefs`, [environment], async () => {
    await using directory = await TempDirectory.make();
    const path = directory.join("Data.fs");
    const oid = (number: number) => number.toString(16).padStart(16, "0");
    const referring = (...targets: number[]) => ({ base64: recordReferringTo(targets).toBase64() });
    await using writer = await ZodbWriter.start(environment, { path, fsync: false });
    await writer.store([
      { records: [{ oid: oid(0), ...referring(1, 2, 3, 99) }, { oid: oid(1), ...referring(0) }] },
      { records: [{ oid: oid(2), ...referring(98) }, { oid: oid(3), ...referring() }] },
      { records: [{ oid: oid(4), ...referring(97, 1) }, { oid: oid(5), ...referring(4) }] },
      { records: [{ oid: oid(3), delete: true }] },
      { records: [{ oid: oid(2), ...referring(1) }] }, // the reference to 98 is history
    ]);
    await writer.close();
    const findings = await findingsOf(path, { references: true });
    const bad = findings.flatMap((each) =>
      each.kind === "reference" ? [`${each.oid} ${each.target} ${each.why}`] : []
    );
    assert.deepEqual(bad.sort(), ["0 3 undone", "0 99 missing", "4 97 missing"]);
    assert.deepEqual(findings.flatMap((each) => each.kind === "unreachable" ? [each.oid] : []), [4n, 5n]);
    await using check = await OpenCheck.start(environment);
    const printed = (await check.fsrefs(path))!;
    const theirs = printed.split("\n\n").flatMap((block) => {
      const from = Number(/^oid (0x\w+)/.exec(block)?.[1]);
      return [...block.matchAll(/\toid (0x\w+) (missing|object creation was undone)/g)].map((
        [, target, why],
      ) => `${from} ${Number(target)} ${why === "missing" ? why : "undone"}`);
    });
    assert.deepEqual(theirs.sort(), bad.sort());
  });
}

/** The oids as ZODB's `referencesf` gives them; undefined where the data is no two pickles. */
function referencesIn(scanner: ReferenceScanner, record: string): string[] | undefined {
  const bytes = Uint8Array.fromBase64(record);
  try {
    scanner.scan(bytes, 0, bytes.length);
  } catch (error) {
    if (error instanceof PickleError) return undefined;
    throw error;
  }
  const halves = scanner.references;
  return Array.from({ length: halves.length / 2 }, (_, i) => {
    return formatOidDigits((BigInt(halves[2 * i]!) << 32n) | BigInt(halves[2 * i + 1]!));
  });
}

/** An object of no known class whose state is a list of references (oid, None). */
function recordReferringTo(targets: readonly number[]): Uint8Array<ArrayBuffer> {
  const head = new TextEncoder().encode("cpersistent\nPersistent\n.");
  const references = targets.flatMap((target) => [0x43, 8, 0, 0, 0, 0, 0, 0, 0, target, 0x4e, 0x86, 0x51]);
  return new Uint8Array([0x80, 3, ...head, 0x80, 3, 0x5d, 0x28, ...references, 0x65, 0x2e]);
}
