/** The documents are true: what comments cite exists, links lead somewhere, and printed bytes mean what is said. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readAnswer, toAnswer } from "../lib/cli/status/status_answer.ts";
import { RefusedError } from "../lib/errors.ts";
import { checkIndex, readIndexFile, writeIndexFile } from "../lib/filestorage/index/index_file.ts";
import { Restorer, Storage, TransactionReader, Window } from "../lib/filestorage/mod.ts";
import { ObjectIndex } from "../lib/filestorage/index/object_index.ts";
import { extensionToSend, extensionToStore } from "../lib/pickle/mod.ts";
import { Incoming } from "../lib/replica/receiving/incoming.ts";
import { formatTid, formatTidTime, isBlobRecord, laterThan, parseTid, tidOfTime } from "../lib/zodb/mod.ts";
import {
  encodeGreeting,
  encodeRefusal,
  GreetingDecoder,
  MAX_TRANSACTION_MESSAGE,
  StreamDecoder,
  StreamEncoder,
} from "../lib/zrs/mod.ts";
import {
  anchorOf,
  citationsIn,
  linksOf,
  sectionsOf,
  tableRows,
  type Vector,
  vectorsOf,
} from "./documents.ts";
import { bytesOf, hex, latin1 } from "./kit/hex.ts";
import { MemoryDisk } from "./kit/memory_disk.ts";
import { transactionsOf } from "./kit/transactions_of.ts";
import { concatenate, Recorder } from "./zrs/kit.ts";

const ROOT = new URL("../", import.meta.url);
const PATH = "/db/Data.fs";
const FIRST = parseTid("03f5945817777777");
const SECOND = parseTid("03f594581aaaaaaa");
const UNDO = parseTid("03f594581ddddddd");
const SILENT = { debug() {}, info() {}, warning() {}, error() {} };

const filestorage = readDocument("docs/filestorage_format.md");
const control = readDocument("docs/control_protocol.md");
const zrs = readDocument("docs/zrs_protocol.md");
const vectors = new Map([...vectorsOf(filestorage), ...vectorsOf(zrs)]);
const DATABASE = vectorOf("filestorage database").bytes;

function readDocument(path: string): string {
  return Deno.readTextFileSync(new URL(path, ROOT));
}

function vectorOf(key: string): Vector {
  const vector = vectors.get(key);
  assert(vector !== undefined, `There is no vector ${key}`);
  return vector;
}

/** All documents, by name. */
function documents(): Map<string, string> {
  const found = new Map([["README.md", readDocument("README.md")]]);
  for (const { name } of Deno.readDirSync(new URL("docs/", ROOT))) {
    if (name.endsWith(".md")) found.set(name, readDocument(`docs/${name}`));
  }
  return found;
}

function* sourcesIn(directory: URL): Generator<[path: string, source: string]> {
  for (const { name, isDirectory } of Deno.readDirSync(directory)) {
    if (isDirectory) yield* sourcesIn(new URL(`${name}/`, directory));
    else if (name.endsWith(".ts")) {
      const file = new URL(name, directory);
      yield [file.pathname.slice(ROOT.pathname.length), Deno.readTextFileSync(file)];
    }
  }
}

Deno.test("every document and section that a comment cites exists", () => {
  const titles = new Map([...documents()].map(([name, text]) => [name, sectionsOf(text)]));
  let count = 0;
  const broken: string[] = [];
  for (const room of ["lib/", "tests/"]) {
    for (const [path, source] of sourcesIn(new URL(room, ROOT))) {
      for (const { document, section } of citationsIn(source)) {
        count++;
        const sections = titles.get(document);
        if (sections === undefined) broken.push(`${path} cites ${document}`);
        else if (section !== undefined && !sections.has(section)) {
          broken.push(`${path} cites ${document}, "${section}"`);
        }
      }
    }
  }
  assert.deepEqual(broken, []);
  assert.ok(count > 30, "citations are found");
});

Deno.test("citations are found across lines, several at once, and only in comments", () => {
  const source = [
    "/**",
    ' * Reads (docs/a_b.md, "One" and "Two',
    ' * three"). See also docs/c.md.',
    " */",
    'const text = "docs/d.md"; // e.md, "Four"',
    "// goes on",
  ].join("\n");
  assert.deepEqual(citationsIn(source), [
    { document: "a_b.md", section: undefined },
    { document: "a_b.md", section: "One" },
    { document: "a_b.md", section: "Two three" },
    { document: "c.md", section: undefined },
    { document: "e.md", section: undefined },
    { document: "e.md", section: "Four" },
  ]);
});

Deno.test("every link of a document leads to a document, and to a section of it", () => {
  const all = documents();
  const anchors = new Map(
    [...all].map(([name, text]) => [name, new Set([...sectionsOf(text)].map(anchorOf))]),
  );
  let count = 0;
  for (const [name, text] of all) {
    for (const { document, section } of linksOf(text)) {
      const path = document.replace(name === "README.md" ? /^docs\// : /^\.\.\/(?=README)/, "");
      const target = anchors.get(path || name);
      assert(target !== undefined, `${name} links to ${document}`);
      assert.ok(section === undefined || target.has(section), `${name} links to ${document}#${section}`);
      count++;
    }
  }
  assert.ok(count > 50, `only ${count} links`);
});

Deno.test("every printed vector is tested here", () => {
  assert.deepEqual([...vectors.keys()].sort(), [
    "filestorage blob-record",
    "filestorage database",
    "filestorage fence",
    "filestorage index",
    "filestorage packed",
    "zrs T-python2",
    "zrs blob",
    "zrs extension-sent",
    "zrs extension-stored",
    "zrs greeting",
    "zrs refusal",
    "zrs stream",
  ]);
});

Deno.test("numbers beside the bytes of a Data.fs are those in the bytes", () => {
  for (const key of ["filestorage database", "filestorage packed", "filestorage fence"]) {
    let checked = 0;
    for (const { offset, bytes, comment } of vectorOf(key).lines) {
      const place = / at (\d+):/.exec(comment)?.[1];
      if (place !== undefined) assert.equal(offset, Number(place), comment);
      const value = /^(?:length|previous|transaction|dataLength|back pointer|trailer: the length again) (\d+)/
        .exec(comment)?.[1];
      if (value !== undefined) assert.equal(BigInt(`0x${hex(bytes)}`), numberOf(comment, value), comment);
      const text = /"(\p{L}+\.?)"/u.exec(comment)?.[1];
      if (text !== undefined && bytes.length < 16) {
        assert.equal(new TextDecoder().decode(bytes), text, comment);
      }
      if (place ?? value ?? text) checked++;
    }
    assert.ok(checked > 0, `${key} has numbers`);
  }
});

/** "length 2^52" is a power. */
function numberOf(comment: string, digits: string): bigint {
  const power = /\^(\d+)/.exec(comment)?.[1];
  return power === undefined ? BigInt(digits) : BigInt(digits) ** BigInt(power);
}

Deno.test("the example database holds what the text says", async () => {
  const [first, second, undo, ...more] = transactionsOf(DATABASE);
  assert.deepEqual(more, []);
  assert.deepEqual([first!.tid, second!.tid, undo!.tid], [FIRST, SECOND, UNDO]);
  assert.deepEqual(first!.records.map(({ oid, data }) => [oid, data]), [
    [0n, latin1("AAAA.")],
    [0x123456n, latin1("BB.")],
  ]);
  const [undone] = undo!.records;
  assert.deepEqual([undone!.backPointer, undone!.previous, undone!.dataTid], [99, 178, FIRST]);
  assert.equal(second!.records[0]!.position, 178);

  const disk = new MemoryDisk();
  disk.put(PATH, DATABASE);
  await using storage = await Storage.open(disk, PATH);
  assert.deepEqual([storage.end, storage.lastTid, storage.report.cut], [320, UNDO, undefined]);
});

Deno.test("the packed example has lost the change and kept the undo's data, unlinked", () => {
  const packed = transactionsOf(vectorOf("filestorage packed").bytes);
  assert.deepEqual(packed.map(({ tid, status }) => [tid, status]), [[FIRST, "p"], [UNDO, "p"]]);
  const records = packed.flatMap(({ records }) => records);
  assert.deepEqual(records.map(({ oid, previous, backPointer }) => [oid, previous, backPointer]), [
    [0n, 0, null],
    [0x123456n, 0, null],
  ]);
  assert.deepEqual(records[1]!.data, latin1("BB."));
});

Deno.test("the appender writes the printed fence, every reader ends there, and recovery cuts it", async () => {
  const fence = vectorOf("filestorage fence").bytes;
  const disk = new MemoryDisk();
  disk.put(PATH, DATABASE);
  await using storage = await Storage.open(disk, PATH);
  await storage.beginLarge();
  const fenced = concatenate([DATABASE, fence]);
  assert.equal(hex(disk.bytes(PATH)), hex(fenced));

  using file = disk.openRead(PATH);
  const reader = new TransactionReader(new Window(file, fenced.length));
  assert.equal(reader.read(DATABASE.length), "voted");
  assert.deepEqual([reader.tid, reader.length], [UNDO, 2 ** 52]);

  const after = new MemoryDisk();
  after.put(PATH, fenced);
  await using opened = await Storage.open(after, PATH);
  assert.deepEqual(opened.report.cut, { bytes: 23, savedTo: undefined });
  assert.deepEqual([opened.end, opened.lastTid], [320, UNDO]);
});

Deno.test("the printed index is that of the example database, and what we write for it", async () => {
  const disk = new MemoryDisk();
  disk.put(PATH, DATABASE);
  disk.put(`${PATH}.index`, vectorOf("filestorage index").bytes);
  const read = readIndexFile(disk, PATH);
  assert(read.kind === "read", "the index is read");
  assert.equal(read.position, 320);
  assert.deepEqual([read.index.count, read.index.get(0, 0), read.index.get(0, 0x123456)], [2, 52, 262]);
  using file = disk.openRead(PATH);
  assert.deepEqual(checkIndex(file, read.index, read.position), { kind: "good", lastTid: UNDO });

  disk.addDirectory("/written");
  await writeIndexFile(disk, "/written/Data.fs", read.index, 320);
  assert.equal(hex(disk.bytes("/written/Data.fs.index")), hex(vectorOf("filestorage index").bytes));
});

Deno.test("the printed blob record is recognised as one", () => {
  const { bytes } = vectorOf("filestorage blob-record");
  assert.equal(bytes.length, 25);
  assert.ok(isBlobRecord(bytes, 0, bytes.length));
});

Deno.test("the tables of tids are right", () => {
  const moments = tableRows(filestorage).filter(([utc]) => /^\d{4}-\d\d-\d\dT/.test(utc!));
  assert.equal(moments.length, 3);
  for (const [utc, tid] of moments) assert.equal(formatTid(tidOfTime(Date.parse(`${utc}Z`))), tid);
  const successors = tableRows(filestorage).filter(([last]) => /^[0-9a-f]{16}$/.test(last!));
  assert.equal(successors.length, 4);
  for (const [last, next, moment] of successors) {
    assert.equal(formatTid(laterThan(0n, parseTid(last!))), next);
    const after = /→ (\S+) (\S+)$/.exec(moment!);
    if (after !== null) assert.equal(formatTidTime(parseTid(next!)), `${after[1]}T${after[2]}:00.000Z`);
  }
});

Deno.test("the printed greeting is what we send and take", () => {
  const { bytes } = vectorOf("zrs greeting");
  assert.equal(hex(encodeGreeting("zrs2.1", SECOND)), hex(bytes));
  const decoder = new GreetingDecoder();
  decoder.push(bytes);
  assert.deepEqual(decoder.greeting, { version: "zrs2.1", startTid: SECOND });
});

Deno.test("the printed stream becomes the example database, byte for byte", () => {
  const { bytes } = vectorOf("zrs stream");
  const empty = { readAt: () => 0 };
  const restorer = new Restorer(empty, new ObjectIndex(), 4, 0n, 4096);
  const decoder = new StreamDecoder(0n);
  decoder.push(bytes, 0, bytes.length, new Incoming(restorer, { blobs: { choice: "refuse" }, log: SILENT }));
  assert.ok(decoder.idle);
  assert.equal(hex(restorer.take().bytes), hex(DATABASE.subarray(4)));
});

Deno.test("what stands beside the messages of the stream is what they say", () => {
  const { bytes } = vectorOf("zrs stream");
  const recorder = new Recorder();
  new StreamDecoder(0n).push(bytes, 0, bytes.length, recorder);
  const said: string[] = [];
  for (const { comment } of vectorOf("zrs stream").lines) {
    const [what, value] = comment.split(" ");
    if (what === "oid" || what === "tid" || what === "data_txn") said.push(`${what} ${value}`);
  }
  const found: string[] = [];
  for (const event of recorder.events) {
    const [kind, one, two, three] = event.split(" ");
    const padded = (digits?: string) => digits === "undefined" ? "None" : digits!.padStart(16, "0");
    if (kind === "transaction") found.push(`tid ${padded(one)}`);
    if (kind === "record") {
      found.push(`oid ${padded(one)}`, `tid ${padded(two)}`, `data_txn ${padded(three)}`);
    }
  }
  assert.deepEqual(found, said);
});

Deno.test("the printed digests are those of the rule", () => {
  const { bytes } = vectorOf("zrs stream");
  const hash = createHash("md5").update(new Uint8Array(8));
  const digests: string[] = [];
  for (let at = 0, isData = false; at < bytes.length;) {
    const length = new DataView(bytes.buffer, bytes.byteOffset + at).getUint32(0);
    const body = bytes.subarray(at + 4, at + 4 + length);
    const kind: string = isData ? "data" : String.fromCharCode(body[6]!);
    if (kind === "C") digests.push(hash.copy().digest("hex"));
    isData = kind === "S" || kind === "B";
    hash.update(body);
    at += 4 + length;
  }
  const printed = tableRows(zrs).filter(([, , digest]) => /^[0-9a-f]{32}$/.test(digest ?? ""));
  assert.deepEqual(printed.map(([, , digest]) => digest), digests);
  const beside = vectorOf("zrs stream").lines.flatMap(({ comment }) =>
    /^digest (\S+)/.exec(comment)?.[1] ?? []
  );
  assert.deepEqual(beside, digests);
});

Deno.test("a blob's record and block are taken as printed", () => {
  const stream = vectorOf("zrs stream").bytes;
  const transaction = stream.subarray(0, 4 + 150);
  const recorder = new Recorder();
  const decoder = new StreamDecoder(0n);
  for (const part of [transaction, vectorOf("zrs blob").bytes]) decoder.push(part, 0, part.length, recorder);
  const record = hex(vectorOf("filestorage blob-record").bytes);
  assert.deepEqual(recorder.events.slice(1), [
    "record 7 3f5945817777777 undefined 25 bytes, 1 blocks",
    `data ${record} blob ${hex(latin1("abc"))}`,
  ]);
});

Deno.test("a transaction from Python 2 is taken as printed", () => {
  const { bytes } = vectorOf("zrs T-python2");
  const recorder = new Recorder();
  new StreamDecoder(0n).push(
    concatenate([new Uint8Array([0, 0, 0, bytes.length]), bytes]),
    0,
    bytes.length + 4,
    recorder,
  );
  const description = hex(latin1("initial database creation"));
  assert.deepEqual(recorder.events, [`transaction 3f5945817777777 ' ' ,${description}, kept`]);
});

Deno.test("extensions travel as printed, and come back as they were stored", () => {
  const stored = vectorOf("zrs extension-stored").bytes;
  const sent = vectorOf("zrs extension-sent").bytes;
  assert.equal(hex(extensionToSend(stored, 1000).bytes), hex(sent));
  const rows = tableRows(zrs).filter(([, wire]) => /^7d$|^80037d[0-9a-f]+$/.test(wire ?? ""));
  const examples = rows.map(([file, wire]) =>
    [bytesOf(file === "nothing" ? "" : file!), bytesOf(wire!)] as const
  );
  assert.equal(examples.length, 2);
  for (const [file, wire] of examples) {
    assert.equal(hex(extensionToSend(file, 1000).bytes), hex(wire));
    assert.equal(hex(extensionToStore(wire, 0, wire.length, 65_535).stored), hex(file));
  }

  // In place of what a real primary sends, the stored pickle is all that differs in our T.
  const [, [file, wire]] = examples as [unknown, (typeof examples)[number]];
  const encoder = new StreamEncoder(0n);
  const buffer = new Uint8Array(MAX_TRANSACTION_MESSAGE);
  encoder.attach(buffer);
  encoder.transaction({
    tid: FIRST,
    status: 0x20,
    user: latin1("bob"),
    description: latin1("first"),
    extension: file,
  });
  const real = vectorOf("zrs stream").lines.find(({ comment }) => comment.startsWith("extension {'k'"));
  assert(real !== undefined, "the first transaction has an extension");
  const bytes = vectorOf("zrs stream").bytes;
  const ours = concatenate([bytes.subarray(4, real.offset), wire, latin1("tt.")]);
  assert.equal(hex(buffer.subarray(4, encoder.length)), hex(ours));
});

Deno.test("the printed status has the fields that are sent and described, and can be read", () => {
  const [, printed] = /^```json status\n(.*?)^```$/ms.exec(control) ?? [];
  const answer = JSON.parse(printed!);
  assert.deepEqual(readAnswer(answer), answer);
  const lag = { bytes: 4096, seconds: 0.7 };
  const sent = toAnswer({
    role: "secondary",
    path: PATH,
    lastTid: FIRST,
    bytes: 1610612736,
    blobs: "refuse",
    missingBlobs: undefined,
    problem: undefined,
    delay: {
      delayMs: 3_600_000,
      appliedTid: parseTid("03f5941c17777777"),
      appliedBytes: 1608515584,
      waitingBytes: 2097152,
      nextDueMs: Date.parse("2024-01-02T03:05:00Z"),
    },
    source: {
      address: "10.0.0.1:5000",
      connected: true,
      sinceMs: Date.parse("2024-01-02T02:00:00.100Z"),
      protocol: "native",
      receivedTid: FIRST,
      durableTid: FIRST,
      lag: { bytes: 0, seconds: 0, against: "source" },
      lastTid: FIRST,
      lastError: {
        words: "Cannot connect to 10.0.0.1:5000: connection refused",
        atMs: Date.parse("2024-01-02T02:00:00Z"),
      },
      nextAttemptMs: undefined,
      packedTo: parseTid("03f5929418e25ccc"),
    },
    peers: [{
      address: "10.0.0.3:40714",
      protocol: "zrs2.1",
      connectedMs: Date.parse("2024-01-02T02:30:00Z"),
      sentTid: parseTid("03f59458147ae147"),
      receivedTid: undefined,
      durableTid: undefined,
      position: 1610608640,
      lag,
    }],
  }, {
    pid: 4711,
    sinceMs: Date.parse("2024-01-02T02:00:00Z"),
    nowMs: Date.parse("2024-01-02T03:04:06Z"),
    path: "/srv/replica/Data.fs",
    replicateTo: "10.0.0.2:5000",
  });
  assert.deepEqual(JSON.parse(JSON.stringify(sent)), answer);
  const described = [...control.matchAll(/^\| `(\w+)` /gm)].map(([, name]) => name);
  assert.deepEqual(described, [
    ...Object.keys(answer),
    ...Object.keys(answer.delay),
    ...Object.keys(answer.source),
    ...Object.keys(answer.peers[0]),
    ...Object.keys(JSON.parse(/^```json promote\n(.*?)^```$/ms.exec(control)![1]!)),
  ]);
});

Deno.test("a refusal is written as printed, and understood as one", () => {
  const { bytes, lines } = vectorOf("zrs refusal");
  const reason = /refused: (.+)", /.exec(lines[0]!.comment)?.[1];
  assert(reason !== undefined, "the text is beside the bytes");
  assert.equal(hex(encodeRefusal(reason)), hex(bytes));
  assert.throws(
    () => new StreamDecoder(0n).push(bytes, 0, bytes.length, new Recorder()),
    (error: unknown) => error instanceof RefusedError && error.message === reason,
  );
});
