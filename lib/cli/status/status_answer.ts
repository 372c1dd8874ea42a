/** What a node answers to `status` (docs/control_protocol.md, "status"): made on one side, read on the other. */
import { ProtocolError } from "../../errors.ts";
import type { DelayStatus, Lag, NodeStatus, PeerStatus, SourceStatus } from "../../replica/mod.ts";
import { formatTid, NO_TID, timeOfTid } from "../../zodb/mod.ts";
import { isObject, type JsonObject } from "../control/control_protocol.ts";
import { VERSION } from "../version.ts";

/** What is not known is null. Tids have 16 hexadecimal digits, times are ISO 8601 UTC. */
export interface StatusAnswer {
  readonly role: string;
  readonly version: string;
  readonly pid: number;
  /** Since when the node has been open. */
  readonly since: string;
  /** When this was true. */
  readonly now: string;
  readonly path: string;
  readonly lastTid: string;
  readonly lastTime: string | null;
  readonly bytes: number;
  readonly blobs: string;
  readonly missingBlobs: number | null;
  readonly problem: string | null;
  readonly replicateTo: string | null;
  readonly delay: DelayAnswer | null;
  readonly source: SourceAnswer | null;
  readonly peers: readonly PeerAnswer[];
}

export interface DelayAnswer {
  readonly seconds: number;
  readonly appliedTid: string;
  readonly appliedTime: string | null;
  readonly appliedBytes: number;
  readonly waitingBytes: number;
  readonly nextDue: string | null;
}

export interface LagAnswer {
  readonly bytes: number | null;
  readonly seconds: number | null;
}

export interface SourceAnswer {
  readonly address: string;
  readonly connected: boolean;
  readonly since: string;
  readonly protocol: string | null;
  readonly receivedTid: string;
  readonly durableTid: string;
  readonly lag: LagAnswer & { readonly against: string };
  readonly lastTid: string | null;
  readonly lastError: { readonly words: string; readonly at: string } | null;
  readonly nextAttempt: string | null;
  readonly packedTo: string | null;
}

export interface PeerAnswer {
  readonly address: string;
  readonly protocol: string;
  readonly since: string;
  readonly sentTid: string;
  readonly receivedTid: string | null;
  readonly durableTid: string | null;
  readonly position: number | null;
  readonly lag: LagAnswer;
}

/** What the process knows besides its node. */
export interface ProcessFacts {
  readonly pid: number;
  readonly sinceMs: number;
  readonly nowMs: number;
  /** The file's path for whoever stands in another directory. */
  readonly path: string;
  readonly replicateTo: string | undefined;
}

export function toAnswer(node: NodeStatus, facts: ProcessFacts): StatusAnswer {
  return {
    role: node.role,
    version: VERSION,
    pid: facts.pid,
    since: isoTime(facts.sinceMs),
    now: isoTime(facts.nowMs),
    path: facts.path,
    lastTid: formatTid(node.lastTid),
    lastTime: timeOf(node.lastTid),
    bytes: node.bytes,
    blobs: node.blobs,
    missingBlobs: node.missingBlobs ?? null,
    problem: node.problem ?? null,
    replicateTo: facts.replicateTo ?? null,
    delay: node.delay === undefined ? null : toDelay(node.delay),
    source: node.source === undefined ? null : toSource(node.source),
    peers: node.peers.map(toPeer),
  };
}

function toDelay({ delayMs, appliedTid, appliedBytes, waitingBytes, nextDueMs }: DelayStatus): DelayAnswer {
  return {
    seconds: delayMs / 1000,
    appliedTid: formatTid(appliedTid),
    appliedTime: timeOf(appliedTid),
    appliedBytes,
    waitingBytes,
    nextDue: nextDueMs === undefined || Number.isNaN(new Date(nextDueMs).getTime())
      ? null
      : isoTime(nextDueMs),
  };
}

function toSource(source: SourceStatus): SourceAnswer {
  const { lastError, nextAttemptMs } = source;
  return {
    address: source.address,
    connected: source.connected,
    since: isoTime(source.sinceMs),
    protocol: source.protocol ?? null,
    receivedTid: formatTid(source.receivedTid),
    durableTid: formatTid(source.durableTid),
    lag: { ...toLag(source.lag), against: source.lag.against },
    lastTid: tidOrNull(source.lastTid),
    lastError: lastError === undefined ? null : { words: lastError.words, at: isoTime(lastError.atMs) },
    nextAttempt: nextAttemptMs === undefined ? null : isoTime(nextAttemptMs),
    packedTo: tidOrNull(source.packedTo),
  };
}

function toPeer(peer: PeerStatus): PeerAnswer {
  return {
    address: peer.address,
    protocol: peer.protocol,
    since: isoTime(peer.connectedMs),
    sentTid: formatTid(peer.sentTid),
    receivedTid: tidOrNull(peer.receivedTid),
    durableTid: tidOrNull(peer.durableTid),
    position: peer.position ?? null,
    lag: toLag(peer.lag),
  };
}

function tidOrNull(tid: bigint | undefined): string | null {
  return tid === undefined ? null : formatTid(tid);
}

function toLag({ bytes, seconds }: Lag): LagAnswer {
  // A tid's unit is 14 ns; a difference of two has no meaning below.
  return { bytes: bytes ?? null, seconds: seconds === undefined ? null : Math.round(seconds * 1e6) / 1e6 };
}

function isoTime(ms: number): string {
  return new Date(ms).toISOString();
}

/** Null for no tid, and for one whose time no calendar has. */
function timeOf(tid: bigint): string | null {
  const ms = timeOfTid(tid);
  return tid === NO_TID || Number.isNaN(new Date(ms).getTime()) ? null : isoTime(ms);
}

type Check = (value: unknown) => boolean;

const text: Check = (value) => typeof value === "string";
const time: Check = (value) => typeof value === "string" && !Number.isNaN(Date.parse(value));
const tid: Check = (value) => typeof value === "string" && /^[0-9a-f]{16}$/.test(value);
const count: Check = (value) => typeof value === "number" && value >= 0;
const truth: Check = (value) => typeof value === "boolean";

function or(check: Check): Check {
  return (value) => value === null || check(value);
}

function shape(fields: Readonly<Record<string, Check>>): Check {
  return (value) => isObject(value) && Object.entries(fields).every(([name, check]) => check(value[name]));
}

const PEER = shape({
  address: text,
  protocol: text,
  since: time,
  sentTid: tid,
  receivedTid: or(tid),
  durableTid: or(tid),
  position: or(count),
  lag: shape({ bytes: or(count), seconds: or(count) }),
});

const SOURCE = shape({
  address: text,
  connected: truth,
  since: time,
  protocol: or(text),
  receivedTid: tid,
  durableTid: tid,
  lag: shape({ bytes: or(count), seconds: or(count), against: text }),
  lastTid: or(tid),
  lastError: or(shape({ words: text, at: time })),
  nextAttempt: or(time),
  packedTo: or(tid),
});

const DELAY = shape({
  seconds: count,
  appliedTid: tid,
  appliedTime: or(time),
  appliedBytes: count,
  waitingBytes: count,
  nextDue: or(time),
});

const FIELDS: Readonly<Record<keyof StatusAnswer, Check>> = {
  role: text,
  version: text,
  pid: count,
  since: time,
  now: time,
  path: text,
  lastTid: tid,
  lastTime: or(time),
  bytes: count,
  blobs: text,
  missingBlobs: or(count),
  problem: or(text),
  replicateTo: or(text),
  delay: or(DELAY),
  source: or(SOURCE),
  peers: (value) => Array.isArray(value) && value.every(PEER),
};

/**
 * Takes an answer for what it should be; fields that we do not know may be there, from a later version.
 * @throws ProtocolError naming the first field that is not as it must be
 */
export function readAnswer(answer: JsonObject): StatusAnswer {
  for (const [name, check] of Object.entries(FIELDS)) {
    if (!check(answer[name])) {
      throw new ProtocolError(`Cannot understand the node's status: ${name} is not as expected`, {
        hint: "ask with the version of zrs that the node has",
      });
    }
  }
  return answer as unknown as StatusAnswer;
}
