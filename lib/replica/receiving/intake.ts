/** What both protocols have in common where a secondary receives: reading within a deadline, and why it ends. */
import { UnavailableError, type ZrsError } from "../../errors.ts";
import type { Storage } from "../../filestorage/mod.ts";
import type { Clock, Connection } from "../../ports/mod.ts";
import type { Fit, Secret } from "../../native/mod.ts";
import type { BlobReception } from "../blob_use.ts";
import type { Compress } from "../sending/pace.ts";
import type { Ports } from "../ports.ts";
import { describeTid } from "../../zodb/mod.ts";
import type { Sink } from "./sink.ts";
import { withDeadline } from "../waiting.ts";

/** What a source has on disk, as far as it has said. */
export interface SourceState {
  readonly lastTid: bigint;
  /** The end of its file, where positions in ours are the same; undefined otherwise. */
  readonly end: number | undefined;
}

/** One connection to a source, by one protocol. */
export interface Intake {
  /** As `zrs status` calls it. */
  readonly protocol: string;
  /** What the source has said of itself; undefined where it has not, or says nothing. */
  readonly source: SourceState | undefined;
  /**
   * Receives until the connection ends. What is whole then is in the sink.
   * @returns why it ended
   * @throws DiskError final
   */
  receive(): Promise<ZrsError>;
  /** Ends {@link receive}, in good order where the protocol has words for it. */
  stop(reason?: string): void;
}

/** Catching up once: up to where, and on what it may rest that this is all. */
export interface Once {
  /** Nothing later is taken. */
  readonly until: bigint;
  /** What comes later is copied behind that, by somebody else: it need not be whole for itself. */
  readonly isStep: boolean;
  /** Looks at what a source says before it sends anything. @throws UnavailableError where nothing is to be taken */
  readonly judge: (source: Promised) => void;
  /** For zrs2, by which no source tells where it ends. */
  readonly zrs2: {
    /** What the source's last transaction is, where that is known from elsewhere: then it must come. */
    readonly lastTid: bigint | undefined;
    /** Else a source that has been silent for so long is taken to have sent all it has. */
    readonly settleMs: number;
  };
}

/** What a source says of itself when it begins to send. */
export interface Promised extends SourceState {
  readonly fit: Fit;
  /** It was packed to a later time than that up to which it was asked for. */
  readonly isWithinPack?: boolean | undefined;
}

/** On what it rests that a source has sent all that was asked for. */
export type Completeness =
  /** It says so. */
  | "said"
  /** What came last is what was to come last, or something later came. */
  | "reached"
  /** It was silent for a while. */
  | "quiet";

/** The source has sent all that was asked for, and it is durable here. */
export class CompleteEnd extends UnavailableError {
  readonly restsOn: Completeness;

  constructor(restsOn: Completeness) {
    super("The source has sent all that was asked for");
    this.restsOn = restsOn;
  }
}

/** What a source is as of a time before that of its last pack, it cannot send any more. */
export class WithinPackError extends UnavailableError {
  constructor(until: bigint) {
    super(
      `It has been packed to a later time than ${describeTid(until)}, and may lack objects as they were then`,
      { hint: "copy up to a later time, or all that it has" },
    );
  }
}

/** Where transactions come from and go to, and how to go about it. */
export interface IntakeContext {
  readonly ports: Ports;
  readonly storage: Storage;
  readonly sink: Sink;
  readonly connection: Connection;
  readonly options: {
    readonly path: string;
    readonly blobs: BlobReception;
    readonly keepAliveMs: number;
    /** A source that stops in the middle of a transaction, or takes nothing, for so long is dropped. */
    readonly peerTimeoutMs: number;
    readonly readBytes: number;
    readonly runBytes: number;
    readonly compress: Compress;
    /** Name and version of this program, for the other end's log. */
    readonly software: string;
    /** What the source is to remember this secondary by. */
    readonly name?: string | undefined;
    /** The source must prove that it has it, too; undefined: any source will do. */
    readonly secret: Secret | undefined;
    /** Where this is to catch up once; undefined: to stay, and take whatever comes. */
    readonly once?: Once | undefined;
  };
  /** Called now and then; saves the index when that is due. */
  readonly saveIndexWhenDue: () => Promise<void>;
  /** Is told, each time it is said, up to where the source has packed its file. */
  readonly sourcePacked?: ((tid: bigint) => void) | undefined;
}

/** The connection ended while the source had nothing new for a while, which is nothing to wonder at. */
export class IdleEnd extends UnavailableError {}

/**
 * The next bytes.
 * @param timeoutMs how long the source may be silent; undefined: as long as it likes
 * @throws UnavailableError when it has closed, is lost, or has been silent for too long
 */
export async function readWithin(
  clock: Clock,
  connection: Connection,
  into: Uint8Array,
  timeoutMs: number | undefined,
  silence: string,
): Promise<number> {
  if (timeoutMs === undefined) return receivedOf(await connection.read(into));
  let stalled = false;
  const stop = () => {
    stalled = true;
    connection.close();
  };
  try {
    return receivedOf(await withDeadline(clock, timeoutMs, stop, connection.read(into)));
  } catch (error) {
    if (!stalled) throw error;
    throw new UnavailableError(`Cannot receive: ${silence} for ${timeoutMs / 1000} s`);
  }
}

function receivedOf(count: number | null): number {
  if (count === null) throw new UnavailableError("The source has closed the connection");
  return count;
}
