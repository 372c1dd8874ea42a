/**
 * Control messages: JSON objects in frames of their own, for everything but transactions and acknowledgements
 * (docs/native_protocol.md, "Control messages"). Fields that are not known are ignored, and so are messages of a
 * type that is not known, unless they say that they must be understood.
 */
import { frame } from "../bytes/mod.ts";
import { ProtocolError } from "../errors.ts";
import { formatTid } from "../zodb/mod.ts";
import { Fields, printable } from "./fields.ts";
import { MAX_CONTROL_BYTES } from "./frames.ts";

/** The version of the protocol: what changes the meaning of anything below raises it. */
export const VERSION = 1;

/** How a secondary's file lies to the source's, as far as the histories' comparison tells. */
export type Fit =
  /** It is a beginning of the source's, byte by byte: with what follows it becomes the same file. */
  | "prefix"
  /** The source has every transaction behind the secondary's last one, in another place. */
  | "later"
  /** The source has packed away, or may have, transactions or records behind the secondary's last one. */
  | "gap"
  /** The source has packed away all that could tell whether this is its own history. */
  | "unknown";

const FITS: readonly Fit[] = ["prefix", "later", "gap", "unknown"];

/** What a secondary has of a transaction that did not come whole: it was too large to be kept in memory. */
export interface Begun {
  readonly tid: bigint;
  /** How many bytes of it, from its first on, as they lie in the source's file. */
  readonly bytes: number;
  /** Their SHA-256, in hexadecimal digits. */
  readonly digest: string;
}

/** What a secondary wants of blobs: their contents; to find them where the source has them; or nothing. */
export type WantedBlobs = "content" | "presence" | "nothing";

const WANTED_BLOBS: readonly WantedBlobs[] = ["content", "presence", "nothing"];

/** What a secondary has of a blob that did not come whole, or whose transaction did not. */
export interface BegunBlob {
  readonly oid: bigint;
  readonly tid: bigint;
  /** How many bytes of it, from its first on. */
  readonly bytes: number;
  /** Their SHA-256, in hexadecimal digits. */
  readonly digest: string;
}

/** The secondary begins with this. */
export interface Hello {
  readonly type: "hello";
  readonly version: number;
  /** Name and version of the program, for logs. */
  readonly software: string;
  /** What the secondary is called, the same each time it comes; undefined where it does not say. */
  readonly name?: string | undefined;
  readonly lastTid: bigint;
  /** The digest of the last transaction's content; undefined when there is none. */
  readonly digest: string | undefined;
  /** Where the secondary's file ends. */
  readonly end: number;
  /** The beginning of what follows there, kept from a connection that was lost. */
  readonly begun?: Begun | undefined;
  /** Undefined: the source is to end the stream at the first blob. */
  readonly blobs?: WantedBlobs | undefined;
  readonly begunBlobs?: readonly BegunBlob[] | undefined;
  /** `mark`: where the source has no file for a blob, the record is to come all the same, with word of the hole. */
  readonly missingBlobs?: "mark" | undefined;
  /** A run of several transactions may have so many bytes: the secondary holds it until it is whole. */
  readonly runBytes: number;
  /** How often the secondary wants to hear from the source, and will say a `beat` itself, in milliseconds. */
  readonly beatMs: number;
  readonly capabilities: readonly string[];
  /** Capabilities without which the secondary cannot go on. */
  readonly required: readonly string[];
  /**
   * Where the secondary wants to catch up once: nothing later than this tid, and nothing that the source does not
   * have when it says welcome; undefined: all that comes.
   */
  readonly until?: bigint | undefined;
}

/** A secondary with a secret begins with this; the hello comes when both ends have proved that they have it. */
export interface Introduction {
  readonly type: "introduction";
  /** Random bytes in hexadecimal digits. */
  readonly nonce: string;
  /** So that a source that knows of no secrets ends the connection at once. */
  readonly mustUnderstand: true;
}

/** The source has a secret, too, and wants to see a proof of the secondary's. */
export interface Challenge {
  readonly type: "challenge";
  /** As in the introduction. */
  readonly nonce: string;
}

/** The sender has the secret. */
export interface Proof {
  readonly type: "proof";
  /** In hexadecimal digits. */
  readonly proof: string;
}

/** The source asks about the secondary's history, and gets an `answer`. */
export interface Ask {
  readonly type: "ask";
  readonly question: unknown;
}

export interface Answer {
  readonly type: "answer";
  readonly answer: unknown;
}

/** The source takes the secondary: from now on runs follow. */
export interface Welcome {
  readonly type: "welcome";
  readonly version: number;
  readonly software: string;
  /** What both can do, and will. */
  readonly capabilities: readonly string[];
  /** The source's last transaction on disk, and the end of its file. */
  readonly lastTid: bigint;
  readonly end: number;
  /** How often the source says a `beat`, and wants one, in milliseconds. */
  readonly beatMs: number;
  /** What the secondary's administrator should know although all goes on. */
  readonly notice: string | undefined;
  /** Undefined where the source does not say, or what it says is not known here. */
  readonly fit?: Fit | undefined;
  /** The first run goes on behind so many bytes of the transaction that was begun; undefined: it begins anew. */
  readonly resumeAt?: number | undefined;
  /** Up to where the source has packed its file, as far as it knows. */
  readonly packedTo?: bigint | undefined;
  /** The source has been packed to a later time than that up to which it was asked for. */
  readonly withinPack?: boolean | undefined;
}

/** Why refused: for programs; the words are in `reason`. */
export type RefusalCode =
  | "version"
  | "capability"
  | "unauthorised"
  | "ahead"
  | "forked"
  | "busy"
  | "blobs"
  | "trouble";

/** The source does not take the secondary, or not any more; it closes the connection behind this. */
export interface Refused {
  readonly type: "refused";
  readonly code: string;
  readonly reason: string;
  /** The last transaction that both have, where that is known. */
  readonly commonTid: bigint | undefined;
  /** Whether no later one can be common too; a pack may have removed what would tell. */
  readonly exact?: boolean | undefined;
}

/** Either end is alive. The source's: what it has on disk; the secondary's: what is durable there. */
export interface Beat {
  readonly type: "beat";
  readonly lastTid: bigint;
  readonly end: number;
  /** The sender's time of day in milliseconds since 1970 UTC. */
  readonly time: number;
}

/** The secondary has been sent all that the source has on disk, or all that it asked for. */
export interface Complete {
  readonly type: "complete";
  readonly lastTid: bigint;
  readonly end: number;
}

/** The sender closes the connection in good order. */
export interface Bye {
  readonly type: "bye";
  /** `again`: connect again at once; `stopping`: later; `trouble`: something is wrong. */
  readonly code: string;
  readonly reason: string;
  /** As in the welcome: with `again`, the file may have been packed just now. */
  readonly packedTo?: bigint | undefined;
}

export type Control =
  | Introduction
  | Challenge
  | Proof
  | Hello
  | Ask
  | Answer
  | Welcome
  | Refused
  | Beat
  | Complete
  | Bye;

/** @returns the whole frame. @throws ProtocolError when it would be longer than a control message may be */
export function encodeControl(message: Control): Uint8Array {
  const json = JSON.stringify(message, (_key, value) => typeof value === "bigint" ? formatTid(value) : value);
  const body = new TextEncoder().encode(json);
  if (body.length > MAX_CONTROL_BYTES) {
    throw new ProtocolError(
      `Cannot send ${message.type}: it must have at most ${MAX_CONTROL_BYTES} bytes, and has ${body.length}`,
    );
  }
  return frame(body);
}

/**
 * @returns undefined for a message of a type that is not known and need not be
 * @throws ProtocolError
 */
export function decodeControl(body: Uint8Array): Control | undefined {
  const fields = new Fields(parse(body));
  const type = fields.text("type");
  switch (type) {
    case "hello":
      return {
        type,
        version: fields.count("version"),
        software: fields.words("software"),
        name: fields.has("name") ? fields.words("name") : undefined,
        lastTid: fields.tid("lastTid"),
        digest: fields.digest("digest"),
        end: fields.count("end"),
        begun: fields.has("begun") ? begunOf(fields.nested("begun")) : undefined,
        blobs: fields.has("blobs") ? fields.oneOf("blobs", WANTED_BLOBS) : undefined,
        begunBlobs: fields.has("begunBlobs") ? fields.list("begunBlobs").map(begunBlobOf) : undefined,
        missingBlobs: fields.has("missingBlobs")
          ? fields.oneOf("missingBlobs", ["mark"] as const)
          : undefined,
        runBytes: fields.count("runBytes"),
        beatMs: fields.count("beatMs"),
        capabilities: fields.names("capabilities"),
        required: fields.names("required"),
        until: fields.has("until") ? fields.tid("until") : undefined,
      };
    case "introduction":
      return { type, nonce: fields.hex256("nonce"), mustUnderstand: true };
    case "challenge":
      return { type, nonce: fields.hex256("nonce") };
    case "proof":
      return { type, proof: fields.hex256("proof") };
    case "ask":
      return { type, question: fields.any("question") };
    case "answer":
      return { type, answer: fields.any("answer") };
    case "welcome":
      return {
        type,
        version: fields.count("version"),
        software: fields.words("software"),
        capabilities: fields.names("capabilities"),
        lastTid: fields.tid("lastTid"),
        end: fields.count("end"),
        beatMs: fields.count("beatMs"),
        notice: fields.has("notice") ? fields.words("notice") : undefined,
        fit: FITS.find((each) => each === fields.any("fit")),
        resumeAt: fields.has("resumeAt") ? fields.count("resumeAt") : undefined,
        packedTo: fields.has("packedTo") ? fields.tid("packedTo") : undefined,
        withinPack: fields.any("withinPack") === true,
      };
    case "refused":
      return {
        type,
        code: fields.words("code"),
        reason: fields.words("reason"),
        commonTid: fields.has("commonTid") ? fields.tid("commonTid") : undefined,
        exact: fields.any("exact") === true,
      };
    case "beat":
      return {
        type,
        lastTid: fields.tid("lastTid"),
        end: fields.count("end"),
        time: fields.time("time"),
      };
    case "complete":
      return { type, lastTid: fields.tid("lastTid"), end: fields.count("end") };
    case "bye":
      return {
        type,
        code: fields.words("code"),
        reason: fields.words("reason"),
        packedTo: fields.has("packedTo") ? fields.tid("packedTo") : undefined,
      };
    default:
      if (!fields.has("mustUnderstand")) return undefined;
      throw new ProtocolError(`Cannot understand message ${printable(type)}: it comes from a later version`);
  }
}

function begunOf(fields: Fields): Begun {
  return { tid: fields.tid("tid"), bytes: fields.count("bytes"), digest: fields.hex256("digest") };
}

function begunBlobOf(fields: Fields): BegunBlob {
  return { oid: fields.tid("oid"), ...begunOf(fields) };
}

function parse(body: Uint8Array): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch (cause) {
    throw new ProtocolError("Cannot read control message: it is not JSON", { cause });
  }
  if (typeof value === "object" && value !== null) return value as Record<string, unknown>;
  throw new ProtocolError("Cannot read control message: it is not an object");
}
