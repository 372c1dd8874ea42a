/** Native streams as data: what a decoder tells its handler, and what our encoder makes of transactions. */
import { STATUS } from "../../lib/zodb/mod.ts";
import {
  type Acknowledgement,
  type NativeContent,
  NativeDecoder,
  type NativeHandler,
  type Whole,
} from "../../lib/native/mod.ts";
import type { TransactionHead } from "../../lib/zodb/mod.ts";
import { hex, latin1 } from "../kit/hex.ts";
import { eight, join } from "../kit/zrs_wire.ts";

/** Everything a handler was told, in words; content that came in parts is one event. */
export class Recorder implements NativeHandler, NativeContent {
  readonly content: NativeContent = this;
  readonly events: string[] = [];
  /** The decoder's answers: what counts. */
  readonly counted: string[] = [];
  #content: { kind: "raw" | "data" | "blob"; parts: Uint8Array[] } | undefined;

  control(message: unknown): void {
    const json = JSON.stringify(
      message,
      (_key, value) => typeof value === "bigint" ? value.toString(16) : value,
    );
    // Where content is cut is nobody's business, but a message may stand anywhere between.
    this.events.push(json);
  }

  acknowledgement({ received, durable, bytes, checksum }: Acknowledgement): void {
    this.#tell(`acknowledgement ${received} ${durable} ${bytes} ${checksum}`);
  }

  raw(source: Uint8Array, from: number, to: number): void {
    this.#take("raw", source.slice(from, to));
  }

  whole({ lastTid, length, transactions }: Whole): void {
    this.#tell(`whole ${lastTid} ${length} ${transactions}`);
    this.counted.push(...this.events.splice(0));
  }

  transaction({ tid, status, user, description, extension }: TransactionHead): void {
    this.#tell(`transaction ${tid} ${status} ${[user, description, extension].map(hex)}`);
  }

  record(oidHigh: number, oidLow: number, tid: bigint, dataTid: bigint | undefined, length: number): void {
    this.#tell(`record ${oidHigh} ${oidLow} ${tid} ${dataTid} ${length}`);
  }

  data(source: Uint8Array, from: number, to: number): void {
    this.#take("data", source.slice(from, to));
  }

  recordEnd(): void {
    this.#tell("record end");
  }

  blob({ oid, tid }: { oid: bigint; tid: bigint }, from: number | undefined): void {
    this.#tell(`blob ${oid} ${tid} behind ${from}`);
  }

  blobData(source: Uint8Array, from: number, to: number): void {
    this.#take("blob", source.slice(from, to));
  }

  blobEnd(): void {
    this.#tell("blob end");
  }

  commit(): void {
    this.#tell("commit");
    this.counted.push(...this.events.splice(0));
  }

  #take(kind: "raw" | "data" | "blob", bytes: Uint8Array): void {
    if (this.#content?.kind !== kind) this.#content = { kind, parts: [] };
    this.#content.parts.push(bytes);
  }

  #tell(event: string): void {
    const content = this.#content;
    this.#content = undefined;
    if (content !== undefined) this.events.push(`${content.kind} ${hex(join(...content.parts))}`);
    this.events.push(event);
  }
}

/** Gives the stream to a decoder in these pieces. @throws ProtocolError */
export function decodePieces(
  pieces: Iterable<Uint8Array>,
  recorder = new Recorder(),
  compressed = true,
): Recorder {
  const decoder = new NativeDecoder({ compressed });
  for (const piece of pieces) {
    for (let at = 0; at < piece.length;) at = decoder.push(piece, at, piece.length, recorder);
  }
  return recorder;
}

export interface SampleRecord {
  readonly oid: bigint;
  readonly dataTid?: bigint | undefined;
  readonly data: Uint8Array;
}

export interface SampleTransaction {
  readonly tid: bigint;
  readonly status: " " | "p";
  readonly user: string;
  readonly description: string;
  readonly extension: Uint8Array;
  readonly records: readonly SampleRecord[];
}

/** What the encoder is used for, as both kinds of sender use it. */
export type Step =
  | { readonly kind: "run"; readonly bytes: Uint8Array; readonly tid: bigint; readonly count: number }
  | { readonly kind: "transaction"; readonly transaction: SampleTransaction };

/** The part of `NativeEncoder` that a sender uses. */
interface Encoder {
  readonly room: number;
  readonly length: number;
  attach(target: Uint8Array): void;
  raw(source: Uint8Array, from: number, to: number): void;
  whole(lastTid: bigint, length: number, transactions: number): void;
  headRoom(head: TransactionHead): number;
  transaction(head: TransactionHead): void;
  record(
    source: Uint8Array,
    oidAt: number,
    tidAt: number,
    dataTidSource: Uint8Array | null,
    dataTidAt: number,
    dataLength: number,
  ): void;
  data(source: Uint8Array, from: number, to: number): void;
  commit(): void;
}

/** The stream of these steps, written through buffers of at least `bufferBytes`. */
export function encodeSteps(encoder: Encoder, steps: readonly Step[], bufferBytes: number): Uint8Array {
  const sent: Uint8Array[] = [];
  let buffer = new Uint8Array();
  const turn = (needed: number) => {
    if (encoder.room >= needed) return;
    sent.push(buffer.slice(0, encoder.length));
    buffer = new Uint8Array(needed + bufferBytes);
    encoder.attach(buffer);
  };
  const content = (bytes: Uint8Array, put: (source: Uint8Array, from: number, to: number) => void) => {
    for (let at = 0; at < bytes.length;) {
      turn(1);
      const count = Math.min(encoder.room, bytes.length - at);
      put(bytes, at, at + count);
      at += count;
    }
  };
  for (const step of steps) {
    turn(100);
    if (step.kind === "run") {
      content(step.bytes, (...part) => encoder.raw(...part));
      encoder.whole(step.tid, step.bytes.length, step.count);
      continue;
    }
    const { tid, status, user, description, extension, records } = step.transaction;
    const head = {
      tid,
      status: status === "p" ? STATUS.packed : STATUS.committed,
      user: latin1(user),
      description: latin1(description),
      extension,
    };
    turn(encoder.headRoom(head));
    encoder.transaction(head);
    for (const { oid, dataTid, data } of records) {
      turn(100);
      const fields = join(eight(oid), eight(tid), eight(dataTid ?? 0n));
      encoder.record(fields, 0, 8, dataTid === undefined ? null : fields, 16, data.length);
      content(data, (...part) => encoder.data(...part));
    }
    turn(100);
    encoder.commit();
  }
  sent.push(buffer.slice(0, encoder.length));
  return join(...sent);
}
