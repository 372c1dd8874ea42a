/** What both protocols have in common where a secondary receives: reading within a deadline, and why it ends. */
import { UnavailableError, type ZrsError } from "../errors.ts";
import type { Storage } from "../filestorage/mod.ts";
import type { Clock, Connection } from "../ports/mod.ts";
import type { Secret } from "../native/mod.ts";
import type { BlobReception } from "./blob_use.ts";
import type { Compress } from "./pace.ts";
import type { Ports } from "./ports.ts";
import type { Sink } from "./sink.ts";
import { withDeadline } from "./waiting.ts";

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
  stop(): void;
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
    /** The source must prove that it has it, too; undefined: any source will do. */
    readonly secret: Secret | undefined;
  };
  /** Called now and then; saves the index when that is due. */
  readonly saveIndexWhenDue: () => Promise<void>;
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
