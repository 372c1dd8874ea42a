/**
 * Records of blobs against the blob directory, both ways (docs/filestorage_format.md, "Blobs"). How large a blob
 * should be, or what should be in it, no record tells.
 */
import { CorruptError } from "../../errors.ts";
import type { Disk, FileStatus } from "../../ports/mod.ts";
import { BLOB_SNIFF_BYTES, formatOid, isBlobRecord, STATUS } from "../../zodb/mod.ts";
import { BLOB_SUFFIX, type BlobLayout, layoutOf, objectDirectory } from "../blobs/blob_directory.ts";
import type { Finding } from "./finding.ts";
import { RECORD } from "../layout.ts";
import { RecordReader } from "../revision.ts";
import { TransactionReader } from "../transaction.ts";
import type { FileRange } from "./verify_ranges.ts";
import { type ByteSource, Window } from "../window.ts";

const OWNER_READS = 0o400;
const ANYBODY_WRITES = 0o222;
/** Records, or names, between two turns of others. */
const STEPS_BETWEEN_PAUSES = 2000;
/** An odd number that spreads the bits of oids. */
const SPREAD = 0x9e37_79b9_7f4a_7c15n;

export class BlobCheck {
  /** Revisions of blobs that have a record. */
  blobs = 0;
  readonly #disk: Disk;
  readonly #source: ByteSource;
  readonly #directory: string;
  readonly #lastTid: bigint;
  readonly #layout: BlobLayout;
  /** One number for each revision of a blob, made of oid and tid: 8 bytes of memory each. */
  #known = new BigUint64Array(1024);
  readonly #beginning = new Uint8Array(BLOB_SNIFF_BYTES);
  readonly #target: RecordReader;

  /**
   * @param lastTid files of later transactions are none of the records' that were verified
   * @throws NotFoundError, UsageError where there is no blob directory
   */
  constructor(disk: Disk, source: ByteSource, directory: string, lastTid: bigint) {
    this.#disk = disk;
    this.#source = source;
    this.#directory = directory;
    this.#lastTid = lastTid;
    this.#layout = layoutOf(disk, directory);
    this.#target = new RecordReader(source);
  }

  /** @returns findings, and now and then undefined, where others may have their turn */
  *run(ranges: readonly FileRange[]): Generator<Finding | undefined> {
    for (const { start, end } of ranges) yield* this.#checkRecords(start, end);
    this.#known = this.#known.subarray(0, this.blobs).sort();
    yield* this.#checkFiles();
  }

  *#checkRecords(start: number, end: number): Generator<Finding | undefined> {
    const reader = new TransactionReader(new Window(this.#source, end));
    let steps = 0;
    for (let position = start; position < end; position = reader.end) {
      if (reader.read(position) !== "whole") return;
      if (reader.status === STATUS.undone) continue;
      const tid = reader.tid;
      const seen = new Set<bigint>(); // an object may have several records in one transaction, and one file
      while (hasNext(reader)) {
        if (++steps % STEPS_BETWEEN_PAUSES === 0) yield undefined;
        if (!this.#isBlob(reader) || seen.has(reader.oid)) continue;
        seen.add(reader.oid);
        yield* this.#checkBlob({ position: reader.recordPosition, tid, oid: reader.oid });
      }
    }
  }

  *#checkBlob(place: { position: number; tid: bigint; oid: bigint }): Generator<Finding> {
    this.#note(keyOf(place.oid, place.tid));
    const path = this.#pathOf(place.oid, place.tid);
    const status = this.#disk.status(path);
    if (status === undefined) yield { kind: "blob-missing", ...place, path };
    else if (status.kind !== "file") yield { kind: "blob-not-a-file", ...place, path, found: status.kind };
    else if (!hasGoodMode(status)) yield { kind: "blob-mode", ...place, path, mode: status.mode };
  }

  /** Whether the record's revision is a blob, also by the data that it shares. */
  #isBlob(reader: TransactionReader): boolean {
    let { dataLength } = reader;
    let position = reader.recordPosition + RECORD.size;
    if (dataLength === 0) {
      if (reader.backPointer === 0) return false;
      const target = this.#target;
      try {
        target.read(reader.backPointer, reader.oidHigh, reader.oidLow);
        if (!target.resolve(reader.oidHigh, reader.oidLow)) return false;
      } catch (error) {
        if (error instanceof CorruptError) return false; // told by the structure's check
        throw error;
      }
      ({ dataLength, dataPosition: position } = target);
    }
    const at = reader.window.peek(position, Math.min(dataLength, BLOB_SNIFF_BYTES));
    if (at >= 0) return isBlobRecord(reader.window.bytes, at, at + dataLength);
    const count = this.#source.readAt(
      this.#beginning.subarray(0, Math.min(dataLength, BLOB_SNIFF_BYTES)),
      position,
    );
    return isBlobRecord(this.#beginning, 0, count);
  }

  #note(key: bigint): void {
    if (this.blobs === this.#known.length) {
      const more = new BigUint64Array(this.blobs * 2);
      more.set(this.#known);
      this.#known = more;
    }
    this.#known[this.blobs++] = key;
  }

  #isKnown(key: bigint): boolean {
    let low = 0;
    let high = this.#known.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#known[middle]! < key) low = middle + 1;
      else high = middle;
    }
    return this.#known[low] === key;
  }

  #pathOf(oid: bigint, tid: bigint): string {
    return `${this.#directory}/${objectDirectory(oid, this.#layout)}/${formatOid(tid)}${BLOB_SUFFIX}`;
  }

  /** Walks through the directories of objects. */
  *#checkFiles(): Generator<Finding | undefined> {
    const depth = this.#layout === "bushy" ? 8 : 1;
    // Names found so far on the way down; a directory's names are listed once, when it is entered.
    const waiting: string[][] = [[]];
    let steps = 0;
    for (let parts = waiting.pop(); parts !== undefined; parts = waiting.pop()) {
      const path = [this.#directory, ...parts].join("/");
      const names = this.#disk.list(path).sort();
      for (const name of names.reverse()) {
        if (++steps % STEPS_BETWEEN_PAUSES === 0) yield undefined;
        if (parts.length < depth) {
          // Anything else there belongs to ZODB (.layout, tmp, .removed), or to others.
          const isOurs = this.#layout === "bushy" ? /^0x[0-9a-f]{2}$/ : /^0x([0-9a-f]{2})+$/;
          if (isOurs.test(name) && this.#disk.status(`${path}/${name}`)?.kind === "directory") {
            waiting.push([...parts, name]);
          }
        } else if (name.endsWith(BLOB_SUFFIX)) {
          yield* this.#checkFile(parts, name);
        }
      }
    }
  }

  *#checkFile(parts: readonly string[], name: string): Generator<Finding> {
    const path = [this.#directory, ...parts, name].join("/");
    const oid = BigInt(`0x${parts.map((part) => part.slice(2)).join("")}`);
    const found = /^0x([0-9a-f]{2}){1,8}\.blob$/.test(name)
      ? BigInt(name.slice(0, -BLOB_SUFFIX.length))
      : undefined;
    // A commit under way has its file there already.
    if (found !== undefined && (found > this.#lastTid || this.#isKnown(keyOf(oid, found)))) return;
    yield { kind: "blob-extra", path, oid, tid: found };
  }
}

function hasNext(reader: TransactionReader): boolean {
  try {
    return reader.nextRecord() >= 0;
  } catch (error) {
    if (error instanceof CorruptError) return false;
    throw error;
  }
}

function hasGoodMode({ mode }: FileStatus): boolean {
  return (mode & OWNER_READS) !== 0 && (mode & ANYBODY_WRITES) === 0;
}

function keyOf(oid: bigint, tid: bigint): bigint {
  return BigInt.asUintN(64, (oid + 1n) * SPREAD ^ tid);
}
