/** A short history as a file and in parts of it, for the tests of the native stream's two ends. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { formatTid } from "../../lib/zodb/mod.ts";
import { type BuiltFile, dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import {
  acknowledgement,
  hello,
  type NativeEvent,
  type NativeMessage,
  type NativeTransaction,
  NativeWire,
  welcome,
} from "../kit/native_wire.ts";
import { eight, join } from "../kit/zrs_wire.ts";
import { ORIGINAL, Scene, type ScriptedPrimary } from "./scene.ts";

export const TID = 0x036c_9000_0000_0001n;

/** The third transaction is cancelled: it lies in the file and does not count. */
export const HISTORY: readonly TransactionDescription[] = [
  { tid: TID, description: "initial", records: [{ oid: 0n, data: "one" }] },
  { tid: TID + 1n, user: "jim", records: [{ oid: 1n, data: "x" }, { oid: 0n, data: "two" }] },
  { tid: TID + 2n, status: "u", records: [{ oid: 0n, data: "never" }] },
  { tid: TID + 3n, records: [{ oid: 0n, backPointer: [0, 0] }, { oid: 1n, data: "y" }] },
];
export const FILE = dataFs(HISTORY);
export const LAST = TID + 3n;
/** What may follow the history. */
export const NEXT: TransactionDescription = { tid: TID + 9n, records: [{ oid: 0n, data: "later" }] };

/** Buffers that a short transaction fills. */
export const SMALL = { readBytes: 512, runBytes: 4_096, sendBytes: 4_096 };

/** The transactions from one to another one, both included, as they lie in a file. */
export function bytesOf(file: BuiltFile, first: number, last: number = first): Uint8Array {
  return file.bytes.subarray(file.transactions[first]!.position, file.transactions[last]!.end);
}

/** The beginning of a file, up to the end of so many transactions. */
export function beginningOf(file: BuiltFile, count: number): Uint8Array {
  return file.bytes.slice(0, count === 0 ? 4 : file.transactions[count - 1]!.end);
}

/** The transactions of {@link HISTORY} that count, one by one. */
export const TRANSACTIONS: readonly NativeTransaction[] = [
  { tid: TID, description: "initial", records: [{ oid: 0n, data: "one" }] },
  { tid: TID + 1n, user: "jim", records: [{ oid: 1n, data: "x" }, { oid: 0n, data: "two" }] },
  { tid: TID + 3n, records: [{ oid: 0n, dataTid: TID, data: "one" }, { oid: 1n, data: "y" }] },
];

/** What such transactions become in a file of their own. */
export const RESTORED = dataFs([
  ...HISTORY.slice(0, 2),
  { tid: TID + 3n, records: [{ oid: 0n, backPointer: [0, 0] }, { oid: 1n, data: "y" }] },
]);

/** The digest of a transaction's content, for one whose records all have data of their own. */
export function digestOf({ tid, user, description, records }: TransactionDescription): string {
  const texts = [user ?? "", description ?? "", ""].map((text) => new TextEncoder().encode(text.toString()));
  const lengths = texts.map(({ length }) => new Uint8Array([length >> 8, length]));
  const parts = records.flatMap((record) => {
    assert("data" in record);
    const data = new TextEncoder().encode(record.data.toString());
    return [eight(record.oid), eight(BigInt(data.length)), data];
  });
  return createHash("sha256").update(join(eight(tid), ...lengths, ...texts, ...parts)).digest("hex").slice(
    0,
    32,
  );
}

/** The secondary's next connection, its hello heard and answered. */
export async function welcomed(
  primary: ScriptedPrimary,
  fields: Record<string, unknown> = {},
): Promise<{ wire: NativeWire; hello: NativeMessage }> {
  const wire = await primary.acceptNative();
  const hello = await wire.receiveMessage("hello");
  await wire.sendMessage(welcome(fields));
  return { wire, hello };
}

export function tidText(tid: bigint): string {
  return formatTid(tid);
}

/** A scene with a file to follow. */
export function sceneWith(bytes: Uint8Array = FILE.bytes, options: { capacity?: number } = {}): Scene {
  const scene = new Scene(options);
  scene.disk.put(ORIGINAL, bytes);
  return scene;
}

/** What a secondary says that has the first transactions of {@link HISTORY}. */
export function helloWith(count: number, fields: Record<string, unknown> = {}) {
  const last = HISTORY[count - 1];
  if (last === undefined) return hello(fields);
  const end = FILE.transactions[count - 1]!.end;
  return hello({ lastTid: tidText(last.tid), digest: digestOf(last), end, ...fields });
}

/** Connects, says hello and hears the welcome. */
export async function attach(
  scene: Scene,
  message = hello(),
): Promise<{ wire: NativeWire; welcome: Record<string, unknown> }> {
  const wire = await scene.connectNative();
  await wire.sendMessage(message);
  return { wire, welcome: await wire.receiveMessage("welcome") };
}

/** The next event must be this message; beats are left out. */
export async function receiveOnly(wire: NativeWire, type: string): Promise<Record<string, unknown>> {
  const event = await wire.receiveEvent();
  assert(event?.kind === "message", `expected ${type}, received ${event?.kind}`);
  assert.equal(event.message.type, type);
  return event.message;
}

/** Runs up to `complete`, put together. */
export async function receiveRuns(
  wire: NativeWire,
): Promise<{ bytes: Uint8Array; tids: bigint[]; count: number }> {
  const parts = [];
  const tids = [];
  let count = 0;
  for (let event: NativeEvent | null; (event = await wire.receiveEvent()) !== null;) {
    if (event.kind === "message" && event.message.type === "complete") break;
    assert(event.kind === "run", `expected a run, received ${event.kind}`);
    parts.push(event.bytes);
    tids.push(event.tid);
    count += event.count;
  }
  return { bytes: join(...parts), tids, count };
}

/** Acknowledges all that has been received. */
export async function acknowledge(wire: NativeWire, tid: bigint): Promise<void> {
  const { bytes, value: checksum } = wire.reader.sum;
  await wire.send(acknowledgement({ receivedTid: tid, durableTid: tid, bytes, checksum }));
}

/** Answers like a secondary that has the first `common` transactions, and others instead of the rest. */
export async function answerAs(
  wire: NativeWire,
  history: readonly TransactionDescription[],
  common: number,
): Promise<Record<string, unknown> | null> {
  for (;;) {
    const event = await wire.receiveEvent();
    if (event === null) return null;
    assert(event.kind === "message");
    const { message } = event;
    if (message.type !== "ask") return message;
    const question = message.question as {
      kind: string;
      after: string | null;
      before: string | null;
      transactions: { tid: string }[];
    };
    const isCommon = (tid: string) => history.slice(0, common).some((each) => tidText(each.tid) === tid);
    const marks = history
      .filter(({ tid, status }) =>
        status !== "u" && tidText(tid) > (question.after ?? "") && tidText(tid) < (question.before ?? "g")
      )
      .map(({ tid }) => ({ tid: tidText(tid), body: "0".repeat(32), packed: false, records: [] }));
    const answer = question.kind === "marks"
      ? { kind: "marks", marks, whole: true }
      : { kind: "holds", held: question.transactions.map(({ tid }) => isCommon(tid) ? "same" : "other") };
    await wire.sendMessage({ type: "answer", answer });
  }
}
