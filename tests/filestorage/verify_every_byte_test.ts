/**
 * A small file with every possible single damage: each byte changed to each other value, and each truncation.
 * All is found, and by a fitting name, but for bytes of which a FileStorage keeps no second trace; which these
 * are, the test works out from the layout.
 */
import assert from "node:assert/strict";
import { UsageError } from "../../lib/errors.ts";
import { writeIndexFile } from "../../lib/filestorage/index/index_file.ts";
import { ObjectIndex } from "../../lib/filestorage/index/object_index.ts";
import { type BuiltFile, dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { latin1 } from "../kit/hex.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import { kindsIn, PATH, verify } from "./verify_kit.ts";

/** Oids no two of which differ in one byte only. */
const [A, B, C] = [0n, 0x0101n, 0x0202n];
const TID = 0x03f5_9458_1777_7777n;

function state(text: string): Uint8Array {
  return latin1(`\x80\x03cm\nC\nq\x00.\x80\x03X${String.fromCharCode(text.length)}\x00\x00\x00${text}.`);
}

const HISTORY: readonly TransactionDescription[] = [
  { tid: TID, status: "p", records: [{ oid: A, data: state("root") }, { oid: B, data: state("packed") }] },
  {
    tid: TID + 0x1_0000n,
    status: "p",
    description: "pp",
    records: [{ oid: B, data: state("packed again") }],
  },
  {
    tid: TID + 0x2_0000n,
    user: "bob",
    records: [{ oid: B, data: state("b") }, { oid: C, data: state("c") }],
  },
  { tid: TID + 0x3_0000n, description: "nothing", records: [] },
  { tid: TID + 0x4_0000n, records: [{ oid: B, backPointer: [1, 0] }, { oid: C, undone: true }] },
  {
    tid: TID + 0x5_0000n,
    extension: latin1("\x80\x03}q\x00."),
    records: [{ oid: C, backPointer: [2, 1] }, { oid: A, data: state("new") }, {
      oid: A,
      data: state("newer"),
    }],
  },
];

/** What the damaged byte belongs to. */
type Field =
  | "magic"
  | "transaction tid"
  | "length"
  | "status"
  | "text lengths"
  | "texts"
  | "oid"
  | "record tid"
  | "previous"
  | "transaction"
  | "versionLength"
  | "dataLength"
  | "data"
  | "back pointer";

interface FieldAt {
  readonly field: Field;
  readonly transaction: number;
  /** The field's first byte. */
  readonly position: number;
}

/** Names every byte of the file, from the layout alone. */
function fieldsOf(file: BuiltFile): FieldAt[] {
  const fields: FieldAt[] = [];
  let position = 0;
  const add = (field: Field, length: number, transaction = -1) => {
    for (let i = 0; i < length; i++) fields.push({ field, transaction, position });
    position += length;
  };
  add("magic", 4);
  file.transactions.forEach(({ end, records }, index) => {
    add("transaction tid", 8, index);
    add("length", 8, index);
    add("status", 1, index);
    add("text lengths", 6, index);
    add("texts", (records[0]?.position ?? end - 8) - position, index);
    for (const record of records) {
      add("oid", 8, index);
      add("record tid", 8, index);
      add("previous", 8, index);
      add("transaction", 8, index);
      add("versionLength", 2, index);
      const isPointer = new DataView(file.bytes.buffer).getBigUint64(position) === 0n;
      add("dataLength", 8, index);
      add(isPointer ? "back pointer" : "data", record.end - position, index);
    }
    add("length", 8, index);
  });
  assert.equal(position, file.bytes.length);
  return fields;
}

/** By which names damage to a field may be told. */
const NAMES: Readonly<Record<Exclude<Field, "magic" | "texts" | "data">, readonly string[]>> = {
  "transaction tid": ["tid-mismatch", "tid-order"],
  length: ["length-mismatch"],
  status: ["bad-status", "unfinished", "torn-tail", "previous", "index-entry"],
  "text lengths": ["metadata-length", "lost-records", "record-length", "previous", "index-entry"],
  oid: ["previous", "back-pointer", "index-entry"],
  "record tid": ["tid-mismatch"],
  previous: ["previous"],
  transaction: ["wrong-transaction", "lost-records", "record-length"],
  versionLength: ["version", "lost-records", "record-length"],
  dataLength: ["record-length", "lost-records", "index-entry", "previous", "back-pointer"],
  "back pointer": ["back-pointer"],
};

/** Whether nothing else in the file could tell that this byte was another. */
function hasNoTrace(
  file: BuiltFile,
  { field, transaction, position }: FieldAt,
  damaged: Uint8Array,
): boolean {
  const { records } = file.transactions[transaction]!;
  const target = () => Number(new DataView(damaged.buffer).getBigUint64(position));
  switch (field) {
    case "texts":
    case "data":
      return true;
    case "transaction tid":
      return records.length === 0; // unless the order of tids tells
    case "status":
      // Whether a pack has copied it; of what has no records, also whether it was cancelled.
      return "p ".includes(String.fromCharCode(damaged[position]!)) ||
        (records.length === 0 && damaged[position] === 0x75);
    case "previous":
      // What a pack has copied may be linked all the same, by a copy of the copy.
      return HISTORY[transaction]!.status === "p" && earlierRecords(file, position - 16).at(-1) === target();
    case "back pointer":
      // That the object does not exist, or is as in another of its revisions, can be so.
      return target() === 0 || earlierRecords(file, position - 42).includes(target());
    default:
      return false;
  }
}

/** The positions of earlier records of the object that has the one at `record`. */
function earlierRecords(file: BuiltFile, record: number): number[] {
  const view = new DataView(file.bytes.buffer);
  return file.transactions.flatMap(({ records }) => records.map(({ position }) => position))
    .filter((each) => each < record && view.getBigUint64(each) === view.getBigUint64(record));
}

async function indexOf(file: BuiltFile): Promise<Uint8Array> {
  const index = new ObjectIndex();
  const view = new DataView(file.bytes.buffer);
  for (const { position } of file.transactions.flatMap(({ records }) => records)) {
    index.set(view.getUint32(position), view.getUint32(position + 4), position);
  }
  const disk = new MemoryDisk();
  disk.put(PATH, file.bytes);
  await writeIndexFile(disk, PATH, index, file.end);
  return disk.bytes(`${PATH}.index`);
}

Deno.test("any byte changed to anything is found by a fitting name, unless the file has no trace of it", async () => {
  const file = dataFs(HISTORY);
  const index = await indexOf(file);
  assert.deepEqual(await kindsIn(file.bytes, { pickles: true }, index), []);
  const counts = { found: 0, silent: 0 };
  for (const [at, field] of fieldsOf(file).entries()) {
    for (let value = 0; value < 256; value++) {
      if (value === file.bytes[at]) continue;
      const damaged = file.bytes.slice();
      damaged[at] = value;
      const what = `${field.field} at ${at}, ${file.bytes[at]} became ${value}`;
      if (field.field === "magic") {
        await assert.rejects(kindsIn(damaged, {}, index), UsageError, what);
        continue;
      }
      let kinds = await kindsIn(damaged, {}, index);
      if (kinds.length === 0 && field.field === "dataLength") {
        // It has swallowed a whole record, of a packed revision that nothing else leads to.
        kinds = await kindsIn(damaged, { pickles: true }, index);
        assert.deepEqual(kinds, ["pickle"], what);
        continue;
      }
      if (kinds.length === 0) {
        assert(hasNoTrace(file, field, damaged), `not found: ${what}`);
        counts.silent++;
      } else if (field.field !== "data" && field.field !== "texts") {
        const isNamed = kinds.some((kind) => NAMES[field.field as keyof typeof NAMES].includes(kind));
        assert(isNamed, `${what}: ${kinds}`);
        counts.found++;
      } else {
        assert.fail(`found what has no trace: ${what}: ${kinds}`);
      }
    }
  }
  assert(counts.found > 100_000 && counts.silent > 10_000, Deno.inspect(counts));
});

Deno.test("with --pickles most damage to data is found, too", async () => {
  const file = dataFs(HISTORY);
  const data = fieldsOf(file).flatMap(({ field }, at) => field === "data" ? [at] : []);
  let found = 0;
  for (const at of data) {
    const damaged = file.bytes.slice();
    damaged[at]! ^= 0x80;
    const kinds = await kindsIn(damaged, { pickles: true });
    for (const kind of kinds) assert.equal(kind, "pickle");
    if (kinds.length > 0) found++;
  }
  assert(found > data.length / 2, `${found} of ${data.length}`);
});

Deno.test("every truncation is a torn tail of the right length, and never damage", async () => {
  const file = dataFs(HISTORY);
  const ends = [4, ...file.transactions.map(({ end }) => end)];
  for (let size = 4; size <= file.bytes.length; size++) {
    const { findings, verified } = await verify(file.bytes.slice(0, size));
    const end = ends.findLast((each) => each <= size)!;
    assert.equal(verified.end, end, `${size}`);
    if (size === end) {
      assert.deepEqual(findings, [], `${size}`);
      continue;
    }
    assert.equal(findings.length, 1, `${size}`);
    const [finding] = findings;
    assert(finding?.kind === "torn-tail", `${size}: ${finding?.kind}`);
    assert.deepEqual([finding.position, finding.bytes], [end, size - end]);
    assert.equal(finding.why, size - end < 23 ? "short" : "beyond");
  }
});

Deno.test("every block of zeros or of letters is found, and all transactions beside it still count", async () => {
  const file = dataFs(HISTORY);
  for (const byte of [0, 0x41, 0xff]) {
    for (let from = 4; from < file.end; from++) {
      const to = Math.min(from + 40, file.end);
      const damaged = file.bytes.slice().fill(byte, from, to);
      const { findings, verified } = await verify(damaged);
      const hit = file.transactions.filter(({ position, end }) => position < to && end > from);
      const untouched = file.transactions.length - hit.length;
      assert(verified.transactions >= untouched, `${byte} from ${from}: ${Deno.inspect(findings)}`);
      const isData = fieldsOf(file).slice(from, to).every(({ field }) =>
        field === "data" || field === "texts"
      );
      if (!isData) assert(findings.length > 0, `${byte} from ${from}`);
    }
  }
});
