/**
 * Messages with a 4-byte big-endian length in front, as zrs2 and the native stream have them
 * (docs/zrs_protocol.md, "Framing and handshake"; docs/native_protocol.md, "Frames"). Survives any cut of the stream; a length is judged before anything is done
 * because of it, and room is made only for bytes that have come.
 */
import { ProtocolError } from "../errors.ts";

export const PREFIX_LENGTH = 4;

/** Room that is kept for messages that come in pieces; longer ones are rare. */
const USUAL_BYTES = 4096;

/** What a message is made of is handed to this, in order; bytes are valid during the call only. */
export interface MessageSink {
  /** Asked between messages: true where no more may come before what came has been seen to. */
  readonly isSated?: boolean;
  /**
   * A message begins.
   * @returns whether it shall come as one piece, to `whole`; otherwise it comes to `part` and `end`
   * @throws ProtocolError when no message of that length can be taken here
   */
  begin(length: number): boolean;
  whole(bytes: Uint8Array, from: number, to: number): void;
  part(bytes: Uint8Array, from: number, to: number): void;
  end(): void;
}

type Expected = "prefix" | "whole" | "parts";

/** Cuts a stream into messages. After anything was thrown it is of no more use. */
export class FrameReader {
  #expected: Expected = "prefix";
  #prefix = 0;
  #prefixBytes = 0;
  /** Bytes of the message that have not come yet. */
  #left = 0;
  /** The beginning of a message that did not come in one piece. */
  #held = new Uint8Array(USUAL_BYTES);
  #heldLength = 0;

  /** Whether the stream may end here: between two messages. */
  get idle(): boolean {
    return this.#expected === "prefix" && this.#prefixBytes === 0;
  }

  /** @returns the offset it has come to: `to`, unless the sink is sated */
  push(chunk: Uint8Array, from: number, to: number, sink: MessageSink): number {
    let at = from;
    while (at < to) {
      if (this.#expected === "prefix") {
        if (sink.isSated === true) break;
        let length: number;
        if (this.#prefixBytes === 0 && to - at >= PREFIX_LENGTH) {
          length = chunk[at]! * 0x100_0000 + (chunk[at + 1]! << 16 | chunk[at + 2]! << 8 | chunk[at + 3]!);
          at += PREFIX_LENGTH;
        } else {
          this.#prefix = this.#prefix * 256 + chunk[at++]!;
          if (++this.#prefixBytes < PREFIX_LENGTH) continue;
          length = this.#prefix;
          this.#prefix = this.#prefixBytes = 0;
        }
        if (!sink.begin(length)) {
          if (length === 0) sink.end();
          else this.#expect("parts", length);
        } else if (to - at >= length) {
          sink.whole(chunk, at, at + length);
          at += length;
        } else {
          this.#expect("whole", length);
        }
        continue;
      }
      const end = Math.min(to, at + this.#left);
      this.#left -= end - at;
      if (this.#expected === "parts") {
        sink.part(chunk, at, end);
        if (this.#left === 0) {
          this.#expected = "prefix";
          sink.end();
        }
      } else {
        this.#hold(chunk, at, end);
        if (this.#left === 0) {
          this.#expected = "prefix";
          sink.whole(this.#held, 0, this.#heldLength);
          if (this.#held.length > USUAL_BYTES) this.#held = new Uint8Array(USUAL_BYTES);
        }
      }
      at = end;
    }
    return at;
  }

  #expect(kind: "whole" | "parts", length: number): void {
    this.#expected = kind;
    this.#left = length;
    this.#heldLength = 0;
  }

  #hold(chunk: Uint8Array, from: number, to: number): void {
    const length = this.#heldLength + to - from;
    if (length > this.#held.length) {
      const grown = new Uint8Array(Math.max(length, Math.min(this.#held.length * 2, length + this.#left)));
      grown.set(this.#held.subarray(0, this.#heldLength));
      this.#held = grown;
    }
    this.#held.set(chunk.subarray(from, to), this.#heldLength);
    this.#heldLength = length;
  }
}

/** Writes a message's length. */
export function putPrefix(target: Uint8Array, at: number, length: number): void {
  target[at] = length >>> 24;
  target[at + 1] = length >>> 16;
  target[at + 2] = length >>> 8;
  target[at + 3] = length;
}

/** A message with its length in front. */
export function frame(body: Uint8Array): Uint8Array {
  const message = new Uint8Array(PREFIX_LENGTH + body.length);
  putPrefix(message, 0, body.length);
  message.set(body, PREFIX_LENGTH);
  return message;
}

/** The error for a message that is longer than `limit` bytes; names what the length's bytes betray. */
export function tooLong(what: string, length: number, limit: number): ProtocolError {
  const guess = guessSpeaker(length);
  return new ProtocolError(
    `Cannot accept ${what}: its length must be at most ${limit} bytes, current value is ${length}` +
      (guess === undefined ? "" : `; this looks like ${guess}`),
  );
}

const SPEAKERS: readonly (readonly [RegExp, string])[] = [
  [/^(GET |HEAD|POST|PUT |DELE|OPTI|PATC|CONN|TRAC|PRI )$/, "an HTTP request"],
  [/^HTTP$/, "the answer of an HTTP server"],
  [/^SSH-$/, "an SSH connection"],
  [/^PROX$/, "a PROXY protocol header"],
  [/^zrs2$/, "a greeting without its length"],
];

/** The first two bytes of a TLS record: its kind (alert, handshake) and the major version. */
const TLS_RECORDS = [0x1503, 0x1603];

/** What else a peer may be speaking, whose first four bytes were taken for a length. */
function guessSpeaker(length: number): string | undefined {
  if (TLS_RECORDS.includes(length >>> 16)) return "a TLS connection: both ends must use TLS, or neither";
  const bytes = new Uint8Array(PREFIX_LENGTH);
  putPrefix(bytes, 0, length);
  const text = String.fromCharCode(...bytes);
  return SPEAKERS.find(([pattern]) => pattern.test(text))?.[1];
}
