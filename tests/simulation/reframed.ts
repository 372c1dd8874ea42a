/** A connection by the native stream on which frames are changed, left out or added, for planting bugs. */
import { crc32 } from "node:zlib";
import type { Connection } from "../../lib/ports/mod.ts";
import { DisguisedConnection } from "./disguise.ts";
import { type Frame, framed, Frames } from "./native_tap.ts";

const READ_BYTES = 4_096;

export class ReframedConnection extends DisguisedConnection {
  readonly #written = new Frames();
  readonly #came = new Frames();
  #unread = new Uint8Array(0);
  #lastWrite: Promise<void> = Promise.resolve();

  /** What is written in place of a frame. */
  protected onWrite(frame: Frame): readonly Uint8Array[] {
    return [frame.body];
  }

  /** What comes in place of a frame. */
  protected onRead(frame: Frame): readonly Uint8Array[] {
    return [frame.body];
  }

  /** Writes a frame behind what is being written. */
  protected say(body: Uint8Array): Promise<void> {
    this.#lastWrite = this.#lastWrite.then(() => this.connection.write(framed(body)));
    this.#lastWrite.catch(() => {});
    return this.#lastWrite;
  }

  override async write(bytes: Uint8Array): Promise<void> {
    await Promise.all(
      this.#written.push(bytes).flatMap((frame) => this.onWrite(frame)).map((body) => this.say(body)),
    );
  }

  override async read(into: Uint8Array): Promise<number | null> {
    const chunk = new Uint8Array(READ_BYTES);
    while (this.#unread.length === 0) {
      const count = await this.connection.read(chunk);
      if (count === null) return null;
      const bodies = this.#came.push(chunk.subarray(0, count)).flatMap((frame) => this.onRead(frame));
      this.#unread = joined(bodies.map(framed));
    }
    const count = Math.min(into.length, this.#unread.length);
    into.set(this.#unread.subarray(0, count));
    this.#unread = this.#unread.slice(count);
    return count;
  }
}

/** A change of content on the way that its checksum does not show, so that only who looks at it can find it. */
export class TamperedConnection extends ReframedConnection {
  readonly #tamper: (content: Uint8Array, isRecord: boolean) => void;
  /** The checksum of what came, and of what was made of it; the former also by how many bytes went into it. */
  #sum = 0;
  #changedSum = 0;
  #bytes = 0;
  readonly #sums = new Map<number, number>();
  #isRecord = false;
  #begins = true;

  /** @param tamper changes the beginning of a run, or of a record's data */
  constructor(connection: Connection, tamper: (content: Uint8Array, isRecord: boolean) => void) {
    super(connection);
    this.#tamper = tamper;
  }

  protected override onRead({ kind, body }: Frame): readonly Uint8Array[] {
    const view = new DataView(body.buffer, body.byteOffset);
    if (kind === "D") {
      const content = body.slice(1);
      if (this.#begins) this.#tamper(content, this.#isRecord);
      this.#begins = false;
      this.#count(body.subarray(1), content);
      return [new Uint8Array([0x44, ...content])];
    }
    if (kind === "T" || kind === "R") {
      this.#isRecord = this.#begins = true;
      this.#count(body, body);
    } else if (kind === "W" || kind === "C") {
      this.#isRecord = false;
      this.#begins = true;
      this.#sums.set(this.#bytes, this.#sum);
      view.setUint32(kind === "W" ? 21 : 1, this.#changedSum);
    }
    return [body];
  }

  protected override onWrite({ kind, body }: Frame): readonly Uint8Array[] {
    if (kind !== "A") return [body];
    const view = new DataView(body.buffer, body.byteOffset);
    view.setUint32(25, this.#sums.get(Number(view.getBigUint64(17)))!);
    return [body];
  }

  #count(came: Uint8Array, changed: Uint8Array): void {
    this.#sum = crc32(came, this.#sum);
    this.#changedSum = crc32(changed, this.#changedSum);
    this.#bytes += came.length;
  }
}

/** One that acknowledges a run as soon as it has come, and not when it is on disk. */
export class HastyAcknowledger extends ReframedConnection {
  #bytes = 0;
  #tid = 0n;

  protected override onRead({ kind, body }: Frame): readonly Uint8Array[] {
    const view = new DataView(body.buffer, body.byteOffset);
    if (kind === "D") this.#bytes += body.length - 1;
    if (kind === "T" || kind === "R") this.#bytes += body.length;
    if (kind === "T" || kind === "W") this.#tid = view.getBigUint64(1);
    if (kind === "W" || kind === "C") {
      void this.say(this.#acknowledgement(view.getUint32(kind === "W" ? 21 : 1)));
    }
    return [body];
  }

  protected override onWrite({ kind, body }: Frame): readonly Uint8Array[] {
    return kind === "A" ? [] : [body];
  }

  #acknowledgement(checksum: number): Uint8Array {
    const body = new Uint8Array(29);
    const view = new DataView(body.buffer);
    view.setUint8(0, 0x41);
    view.setBigUint64(1, this.#tid);
    view.setBigUint64(9, this.#tid);
    view.setBigUint64(17, BigInt(this.#bytes));
    view.setUint32(25, checksum);
    return body;
  }
}

function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
