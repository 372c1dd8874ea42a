/**
 * What a secondary says: at first two messages, its version of the protocol and the tid it has; afterwards
 * only empty messages, to show that it is alive (docs/zrs_protocol.md, "Framing and handshake").
 */
import { ProtocolError } from "../errors.ts";
import { frame, FrameReader, type MessageSink, tooLong } from "../bytes/mod.ts";

/** `zrs2.1` says that the secondary takes blobs. */
export type Version = "zrs2.0" | "zrs2.1";

export interface Greeting {
  readonly version: Version;
  /** The tid of the secondary's last transaction; 0 when it has none. */
  readonly startTid: bigint;
}

/** The message that only shows that the secondary is alive. */
export const KEEP_ALIVE: Readonly<Uint8Array> = new Uint8Array(4);

const TID_LENGTH = 8;

/** Both messages with which a secondary begins. */
export function encodeGreeting(version: Version, startTid: bigint): Uint8Array {
  const tid = new Uint8Array(TID_LENGTH);
  new DataView(tid.buffer).setBigUint64(0, startTid);
  const first = frame(new TextEncoder().encode(version));
  const second = frame(tid);
  const greeting = new Uint8Array(first.length + second.length);
  greeting.set(first);
  greeting.set(second, first.length);
  return greeting;
}

/** The primary's ear for one secondary. */
export class GreetingDecoder {
  readonly #frames = new FrameReader();
  readonly #listener = new Listener();

  /**
   * Takes the next bytes from the secondary, cut anywhere. After it has thrown it is of no more use.
   * @throws ProtocolError for anything that no secondary says
   */
  push(chunk: Uint8Array, from = 0, to = chunk.length): void {
    this.#frames.push(chunk, from, to, this.#listener);
  }

  /** What the secondary said; undefined until all of it has come. */
  get greeting(): Greeting | undefined {
    return this.#listener.greeting;
  }

  /** How many empty messages have come since. */
  get keepAlives(): number {
    return this.#listener.keepAlives;
  }
}

class Listener implements MessageSink {
  greeting: Greeting | undefined;
  keepAlives = 0;
  #version: Version | undefined;

  begin(length: number): boolean {
    if (this.greeting !== undefined) {
      if (length > 0) throw tooLong("message behind the greeting", length, 0);
    } else if (this.#version !== undefined) {
      if (length !== TID_LENGTH) {
        throw new ProtocolError(
          `Cannot accept start tid: its length must be ${TID_LENGTH} bytes, current value is ${length}`,
        );
      }
    } else if (length > TID_LENGTH) {
      throw tooLong("greeting", length, TID_LENGTH);
    }
    return true;
  }

  whole(bytes: Uint8Array, from: number, to: number): void {
    if (this.greeting !== undefined) {
      this.keepAlives++;
    } else if (this.#version === undefined) {
      this.#version = versionOf(bytes.subarray(from, to));
    } else {
      const startTid = new DataView(bytes.buffer, bytes.byteOffset + from, TID_LENGTH).getBigUint64(0);
      this.greeting = { version: this.#version, startTid };
    }
  }

  part(): void {}

  end(): void {}
}

function versionOf(bytes: Uint8Array): Version {
  const text = String.fromCharCode(...bytes);
  if (text === "zrs2.0" || text === "zrs2.1") return text;
  throw new ProtocolError(
    `Cannot accept greeting: it must be "zrs2.0" or "zrs2.1", current value is ${JSON.stringify(text)}`,
  );
}
