/**
 * What serving a secondary needs of the connection it comes by, and what the connection needs of it: the seam
 * between a connection (feed.ts) and the protocols (zrs_feed.ts, native_feed.ts).
 */
import { UnavailableError } from "../../errors.ts";
import type { Generation, TransactionLog } from "../../filestorage/mod.ts";
import type { Secret } from "../../native/mod.ts";
import type { Log } from "../../ports/mod.ts";
import { describeTid } from "../../zodb/mod.ts";
import type { BlobSupply } from "../blob_use.ts";
import type { Compress } from "./pace.ts";
import type { RepeatedLog } from "../repeated_log.ts";
import type { SecondaryMemory } from "./secondary_memory.ts";
import type { SharedLook } from "./shared_look.ts";
import type { Throttle } from "./throttle.ts";

export interface FeedOptions {
  readonly blobs: BlobSupply;
  /** A peer that takes nothing, or does not greet, for so long is dropped. */
  readonly peerTimeoutMs: number;
  /** The size of each of the two buffers that a secondary costs. */
  readonly sendBytes: number;
  /** The log is itself a replica: a secondary ahead of it is let wait until it has caught up. */
  readonly chained: boolean;
  /** Name and version of this program, for the other end's log. */
  readonly software: string;
  /** Whether content is compressed for secondaries that can take that. */
  readonly compress: Compress;
  /** Secondaries must prove that they have it; undefined: whoever connects is served. */
  readonly secret: Secret | undefined;
}

/** What the feeds of one server have in common. */
export interface Shared {
  readonly repeated: RepeatedLog;
  readonly look: SharedLook;
  /** Where it is remembered how far secondaries are; undefined: nowhere. */
  readonly memory: SecondaryMemory | undefined;
  /** What limits the sending of all together; undefined for no limit. */
  readonly throttle: Throttle | undefined;
  /** The paths of blobs' files that could not be read, so that a stream broke off in their middle. */
  readonly unreadableBlobs: Set<string>;
  /** Takes a place among those that are served; undefined when there is none. */
  readonly admit: () => Disposable | undefined;
  /** As {@link admit}, for whoever compares a copy: reading for one is enough beside the real work. */
  readonly admitComparison: () => Disposable | undefined;
}

/** A connection, as one protocol sees it. */
export interface Line {
  readonly peer: string;
  readonly hasEnded: boolean;
  readonly isWriting: boolean;
  /** While something waits for its turn to be sent, a byte of it goes out as often, in milliseconds. */
  beatMs: number;
  /** @throws why the connection has ended, once it has */
  check(): void;
  /**
   * Writes all of it, behind what is being written; the bytes are lent until the promise resolves.
   * @throws UnavailableError also when the peer takes nothing for too long
   */
  write(bytes: Uint8Array): Promise<void>;
  /** Resolves after the next {@link ring}, or at once when there was one since. @throws why the connection has ended */
  wait(): Promise<void>;
  ring(): void;
  /** Ends the connection at once. */
  end(reason: Error): void;
  /** Resolves once the log shows what is on disk now. @throws why the connection has ended */
  lookAgain(): Promise<void>;
  /**
   * Whether sending from that generation failed because the file was packed, replaced or rolled back under it:
   * then nothing is wrong with the file. Looks at it again. @throws why the connection has ended
   */
  isOvertaken(error: unknown, generation: Generation): Promise<boolean>;
  /** Writes why sending failed, unless that is nobody's business at the other end. */
  tellFailure(error: unknown, encode: (reason: string) => Uint8Array): Promise<void>;
}

/** How far a secondary has come; what is undefined is not known. */
export interface Progress {
  readonly sentTid: bigint;
  /** The end of what is sent, or known to be durable there, in that generation of the file. */
  readonly position: number | undefined;
  readonly generation: Generation | undefined;
  readonly receivedTid: bigint | undefined;
  readonly durableTid: bigint | undefined;
}

/** One secondary by one protocol. */
export interface Service {
  /** As `zrs status` calls it. */
  readonly protocol: string;
  /** Undefined until the secondary has greeted and been given a place. */
  readonly progress: Progress | undefined;
  /** Takes what the secondary says. @throws ZrsError to end the connection */
  push(chunk: Uint8Array, from: number, to: number): void;
  /** Resolves when the secondary has said who it is and what it has. */
  greeted(): Promise<void>;
  /** Serves until there is a reason to end. @throws ZrsError that reason */
  serve(): Promise<void>;
  /** What to say when this node stops; undefined where the protocol has no words for it. */
  readonly farewell: Uint8Array | undefined;
  /** What to say when the secondary breaks the protocol; undefined likewise. */
  complaint(reason: string): Uint8Array | undefined;
}

/** The peer went away, or we let it go: nothing is wrong. */
export class PeerLeft extends UnavailableError {}

/**
 * Resolves once the log has a transaction that a secondary has already: a chained node lags, and its own source will
 * bring it there.
 * @param transactions rings the line whenever it changes
 * @throws why the connection has ended
 */
export async function waitUntilReached(
  tid: bigint,
  transactions: TransactionLog,
  line: Line,
  log: Log,
): Promise<void> {
  log.info(
    `${line.peer}: ahead of this replica: has ${describeTid(tid)}, here the last is ` +
      `${describeTid(transactions.view.lastTid)}; waits until this replica has caught up`,
  );
  while (transactions.view.lastTid < tid) await line.wait();
}
