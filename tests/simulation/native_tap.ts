/**
 * Listening to what a secondary and its source say to each other by the native stream (docs/native_protocol.md):
 * frames, cut out of the bytes by a reader of its own.
 */
import type { Connection } from "../../lib/ports/mod.ts";
import { DisguisedConnection } from "./disguise.ts";

export type NativeMessage = Readonly<Record<string, unknown>> & { readonly type: string };

/** A frame: its first byte, and all of it from there on. */
export interface Frame {
  readonly kind: string;
  readonly body: Uint8Array;
}

export interface NativeListener {
  /** The secondary has said it. */
  said(frame: Frame): void;
  /** It has come from the source. */
  heard(frame: Frame): void;
  /** Bytes have been said or have come, whatever they are: a large frame takes its time. */
  spoke(end: "replica" | "source"): void;
  /** The secondary will say and hear no more. */
  closed(): void;
}

/** Cuts a stream into frames. */
export class Frames {
  #unread = new Uint8Array(0);

  /** @returns the frames that are whole now; none any more in a stream that is no native one */
  push(bytes: Uint8Array): Frame[] {
    const all = new Uint8Array(this.#unread.length + bytes.length);
    all.set(this.#unread);
    all.set(bytes, this.#unread.length);
    const view = new DataView(all.buffer);
    const frames: Frame[] = [];
    let at = 0;
    while (at + 4 <= all.length) {
      const length = view.getUint32(at);
      if (at + 4 + length > all.length) break;
      const body = all.slice(at + 4, at + 4 + length);
      if (length > 0) frames.push({ kind: String.fromCharCode(body[0]!), body });
      at += 4 + length;
    }
    this.#unread = all.slice(at);
    return frames;
  }
}

/** The control message that a frame is; undefined for any other frame, and for one that makes no sense. */
export function messageOf({ kind, body }: Frame): NativeMessage | undefined {
  if (kind !== "{") return undefined;
  try {
    return JSON.parse(new TextDecoder().decode(body));
  } catch {
    return undefined; // the other end has to judge it
  }
}

/** A frame as it travels. */
export function framed(body: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(4 + body.length);
  new DataView(bytes.buffer).setUint32(0, body.length);
  bytes.set(body, 4);
  return bytes;
}

/** The connection that a secondary has made, listened to. One by zrs2, whose first frame is short, is let be. */
export class TappedConnection extends DisguisedConnection {
  readonly #listener: NativeListener;
  readonly #said = new Frames();
  readonly #heard = new Frames();
  #isNative: boolean | undefined;

  constructor(connection: Connection, listener: NativeListener) {
    super(connection);
    this.#listener = listener;
  }

  override write(bytes: Uint8Array): Promise<void> {
    this.#isNative ??= bytes[4] === 0x7b;
    if (this.#isNative) {
      this.#listener.spoke("replica");
      for (const frame of this.#said.push(bytes)) this.#listener.said(frame);
    }
    return super.write(bytes);
  }

  override async read(into: Uint8Array): Promise<number | null> {
    const count = await super.read(into);
    if (count !== null && this.#isNative) {
      this.#listener.spoke("source");
      for (const frame of this.#heard.push(into.subarray(0, count))) this.#listener.heard(frame);
    }
    return count;
  }

  override close(): void {
    this.#listener.closed();
    super.close();
  }
}
