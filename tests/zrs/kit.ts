/** Streams as data: transactions to bytes, and bytes to what a handler was told. */
import { STATUS } from "../../lib/zodb/mod.ts";
import {
  MAX_COMMIT_MESSAGE,
  MAX_RECORD_HEAD,
  StreamDecoder,
  StreamEncoder,
  type StreamHandler,
  transactionMessageRoom,
} from "../../lib/zrs/mod.ts";
import { hex } from "../kit/hex.ts";

export interface SampleRecord {
  readonly oid: bigint;
  /** Undefined: the transaction's. */
  readonly tid?: bigint | undefined;
  readonly dataTxn?: bigint | undefined;
  readonly data: Uint8Array;
  readonly blob?: Uint8Array | undefined;
}

export interface SampleTransaction {
  readonly tid: bigint;
  readonly status?: number;
  readonly user?: Uint8Array;
  readonly description?: Uint8Array;
  readonly extension?: Uint8Array;
  readonly records: readonly SampleRecord[];
}

const NOTHING = new Uint8Array(0);

/** The stream of these transactions, written through buffers of at least `bufferBytes`. */
export function encodeStream(
  startTid: bigint,
  transactions: readonly SampleTransaction[],
  bufferBytes = 1,
): Uint8Array {
  const encoder = new StreamEncoder(startTid);
  const sent: Uint8Array[] = [];
  let buffer = NOTHING;
  const turn = (needed: number) => {
    if (encoder.room >= needed) return;
    sent.push(buffer.subarray(0, encoder.length));
    buffer = new Uint8Array(Math.max(needed, bufferBytes));
    encoder.attach(buffer);
  };
  const fields = new Uint8Array(24);
  const view = new DataView(fields.buffer);
  for (const transaction of transactions) {
    const { tid, status = STATUS.committed, user = NOTHING, description = NOTHING, extension = NOTHING } =
      transaction;
    const head = { tid, status, user, description, extension };
    turn(transactionMessageRoom(head));
    encoder.transaction(head);
    for (const record of transaction.records) {
      view.setBigUint64(0, record.oid);
      view.setBigUint64(8, record.tid ?? tid);
      view.setBigUint64(16, record.dataTxn ?? 0n);
      const link = record.dataTxn === undefined ? null : fields;
      turn(MAX_RECORD_HEAD);
      if (record.blob === undefined) encoder.record(fields, 0, 8, link, 16, record.data.length);
      else encoder.blobRecord(fields, 0, 8, link, 16, record.data.length, record.blob.length);
      for (let at = 0; at < record.data.length;) {
        turn(1);
        const to = Math.min(record.data.length, at + encoder.room);
        encoder.data(record.data, at, to);
        at = to;
      }
      const blob = record.blob ?? NOTHING;
      for (let at = 0; at < blob.length;) {
        turn(5);
        at = encoder.blobData(blob, at, blob.length);
      }
    }
    turn(MAX_COMMIT_MESSAGE);
    encoder.commit();
  }
  sent.push(buffer.subarray(0, encoder.length));
  return concatenate(sent);
}

export function concatenate(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Notes what it is told; parts of data are put together. */
export class Recorder implements StreamHandler {
  readonly events: string[] = [];
  #parts: Uint8Array[] = [];
  #blobParts: Uint8Array[] = [];

  transaction(...[head, { extension }]: Parameters<StreamHandler["transaction"]>): void {
    const { tid, status, user, description, extension: stored } = head;
    const texts = [user, description, stored].map(hex).join(",");
    this.events.push(
      `transaction ${tid.toString(16)} '${String.fromCharCode(status)}' ${texts} ${extension}`,
    );
  }

  record(...[oidHigh, oidLow, tid, dataTxn, dataLength, blocks]: Parameters<StreamHandler["record"]>): void {
    const oid = BigInt(oidHigh) << 32n | BigInt(oidLow);
    this.events.push(
      `record ${oid.toString(16)} ${tid.toString(16)} ${
        dataTxn?.toString(16)
      } ${dataLength} bytes, ${blocks} blocks`,
    );
  }

  data(source: Uint8Array, from: number, to: number): void {
    this.#parts.push(source.slice(from, to));
  }

  blobBlock(source: Uint8Array, from: number, to: number): void {
    this.#blobParts.push(source.slice(from, to));
  }

  recordEnd(): void {
    this.events.push(`data ${hex(concatenate(this.#parts))} blob ${hex(concatenate(this.#blobParts))}`);
    this.#parts = [];
    this.#blobParts = [];
  }

  commit(): void {
    this.events.push("commit");
  }
}

/** What a decoder tells its handler for these transactions. */
export function expectedEvents(transactions: readonly SampleTransaction[]): string[] {
  const recorder = new Recorder();
  for (const transaction of transactions) {
    const { tid, status = STATUS.committed, user = NOTHING, description = NOTHING, extension = NOTHING } =
      transaction;
    recorder.transaction({ tid, status, user, description, extension }, { extension: "kept" });
    for (const { oid, tid: own = tid, dataTxn, data, blob } of transaction.records) {
      const blocks = blob && Math.max(1, Math.ceil(blob.length / 65_536));
      recorder.record(Number(oid >> 32n), Number(oid & 0xffff_ffffn), own, dataTxn, data.length, blocks);
      recorder.data(data, 0, data.length);
      if (blob !== undefined) recorder.blobBlock(blob, 0, blob.length);
      recorder.recordEnd();
    }
    recorder.commit();
  }
  return recorder.events;
}

/** What a decoder tells of a stream that comes in these pieces. */
export function decodePieces(startTid: bigint, pieces: Iterable<Uint8Array>): string[] {
  const decoder = new StreamDecoder(startTid);
  const recorder = new Recorder();
  for (const piece of pieces) {
    // A copy that is overwritten afterwards shows whether anything is kept as a view of it.
    const chunk = new Uint8Array(piece.length + 2);
    chunk.set(piece, 1);
    decoder.push(chunk, 1, piece.length + 1, recorder);
    chunk.fill(0xee);
  }
  if (!decoder.idle) recorder.events.push("not idle");
  return recorder.events;
}
