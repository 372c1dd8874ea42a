/**
 * What a pack makes of a file: of every object the revision that is current at the pack time, and revisions
 * that later back pointers lead to; nothing is collected as garbage.
 */
import {
  encode,
  type FoundTransaction,
  MAGIC,
  type NaiveRecord,
  type NaiveTransaction,
  PACKED,
  type Payload,
} from "./source_format.ts";

/** The packed file; undefined when there is nothing to pack. */
export function packedFile(transactions: readonly FoundTransaction[], stop: bigint): Uint8Array | undefined {
  const early = transactions.filter((transaction) => transaction.tid <= stop);
  const late = transactions.slice(early.length);
  if (!early.some((transaction) => transaction.status !== PACKED)) return undefined;

  const kept = currentPositions(early);
  const packPosition = late[0]?.position ?? Infinity;
  for (const record of late.flatMap((transaction) => transaction.records)) {
    const target = "backPointer" in record.payload ? record.payload.backPointer : 0;
    if (target !== 0 && target < packPosition) kept.add(target);
  }
  const payloads = new Map(
    transactions.flatMap((transaction) =>
      transaction.records.map((record) => [record.position, record.payload])
    ),
  );

  const output = new Output();
  for (const transaction of early) {
    const records = transaction.records.filter((record) => kept.has(record.position));
    if (records.length === 0) continue;
    output.add(
      { ...transaction, status: PACKED },
      records,
      (record) => ({ oid: record.oid, previous: 0, payload: resolved(record.payload, payloads) }),
    );
  }
  const before = early.reduce((sum, transaction) => sum + transaction.bytes.length, MAGIC.length);
  // Every database has a root object, so something of its early history always remains, marked 'p'.
  if (output.length === before || output.length === MAGIC.length) return undefined;
  for (const transaction of late) {
    output.add(transaction, transaction.records, (record, current) => ({
      oid: record.oid,
      previous: current.get(record.oid) ?? 0,
      payload: "data" in record.payload
        ? record.payload
        : { backPointer: output.moved(record.payload.backPointer) },
    }));
  }
  return output.bytes();
}

/** Where the revisions lie that are current after these transactions. */
function currentPositions(transactions: readonly FoundTransaction[]): Set<number> {
  const current = new Map<bigint, number>();
  for (const record of transactions.flatMap((transaction) => transaction.records)) {
    if ("backPointer" in record.payload && record.payload.backPointer === 0) current.delete(record.oid);
    else current.set(record.oid, record.position);
  }
  return new Set(current.values());
}

/** The data itself, back pointers followed. */
function resolved(payload: Payload, payloads: ReadonlyMap<number, Payload>): Payload {
  let at = payload;
  while ("backPointer" in at) {
    const next = payloads.get(at.backPointer);
    if (next === undefined) return { backPointer: 0 };
    at = next;
  }
  return at;
}

class Output {
  readonly #parts: Uint8Array[] = [MAGIC];
  readonly #moved = new Map<number, number>([[0, 0]]);
  readonly #current = new Map<bigint, number>();
  length: number = MAGIC.length;

  add(
    transaction: NaiveTransaction,
    records: FoundTransaction["records"],
    convert: (record: NaiveRecord, current: ReadonlyMap<bigint, number>) => NaiveRecord,
  ): void {
    const converted = records.map((record) => convert(record, this.#current));
    const { bytes, starts } = encode({ ...transaction, records: converted }, this.length);
    records.forEach((record, i) => {
      this.#moved.set(record.position, starts[i]!);
      this.#current.set(record.oid, starts[i]!);
    });
    this.#parts.push(bytes);
    this.length += bytes.length;
  }

  /** Where a record of the old file lies in the new one. */
  moved(position: number): number {
    const moved = this.#moved.get(position);
    if (moved === undefined) throw new Error(`A back pointer leads to ${position}, which was not kept`);
    return moved;
  }

  bytes(): Uint8Array {
    const whole = new Uint8Array(this.length);
    let at = 0;
    for (const part of this.#parts) {
      whole.set(part, at);
      at += part.length;
    }
    return whole;
  }
}
