/**
 * `pack` on the control socket (docs/control_protocol.md): what is asked of a node, what it tells meanwhile, and what
 * comes of it. Both ends, so that they fit.
 */
import {
  CorruptError,
  DiskError,
  LockedError,
  ProtocolError,
  UnavailableError,
  UsageError,
  ZrsError,
} from "../../errors.ts";
import type { KnownSecondary, PackProgress, PackReport } from "../../filestorage/mod.ts";
import type { Host } from "../../host/mod.ts";
import { formatTid, formatTidTime, NO_TID, tidOfTime } from "../../zodb/mod.ts";
import { askForAnswer } from "../control/control_client.ts";
import { type Handler, isObject, type JsonObject } from "../control/control_protocol.ts";
import { EXIT } from "../exit_codes.ts";
import { findReferences } from "./pack_references.ts";
import type { Node } from "../server.ts";

/** How often at most a client is told how far it is. */
const TELL_MS = 200;

/** What is to be packed, and how. */
export interface PackPlan {
  /** The last tid that is packed. */
  readonly stop: bigint;
  readonly gc: boolean;
  readonly keepOld: boolean;
  /** What secondaries may need is kept that were heard of within so many milliseconds; undefined: nothing is. */
  readonly keepForMs: number | undefined;
}

/** Where what is told goes. */
export interface PackListener {
  readonly signal: AbortSignal;
  readonly warn: (message: string) => void;
  readonly progress: (progress: PackProgress) => void;
}

/** What a pack has done, as programs get it. */
export function factsOf(path: string, report: PackReport): JsonObject {
  const { isPacked, tid, bytesBefore, bytesAfter, transactionsBefore, transactionsAfter, keptAs } = report;
  const { keptFor, blobsDropped } = report;
  return {
    path,
    packed: isPacked,
    tid: tid === NO_TID ? null : formatTid(tid),
    time: tid === NO_TID ? null : formatTidTime(tid),
    bytesBefore,
    bytesAfter,
    ...(isPacked && { transactionsBefore, transactionsAfter }),
    keptAs: keptAs ?? null,
    blobsDropped: blobsDropped ?? null,
    keptFor: keptFor === undefined ? null : {
      name: keptFor.name,
      tid: formatTid(keptFor.tid),
      heard: new Date(keptFor.heardMs).toISOString(),
    },
  };
}

/** Answers the request. @param path of the node's file */
export function packHandler(node: Node, path: string, host: Host): Handler {
  return async (request, asker) => {
    if (node.pack === undefined) {
      throw new UsageError(`Cannot pack ${path}: this node only follows it, and another program writes it`, {
        path,
        hint: "pack it where it is written; the node goes on behind that by itself",
      });
    }
    const { clock } = host;
    let toldMs = -Infinity;
    const tell = (progress: PackProgress) => {
      if (clock.monotonic() - toldMs < TELL_MS) return;
      toldMs = clock.monotonic();
      const { doing, done, total } = progress;
      asker.tell({ progress: { doing, done, total: total ?? null } });
    };
    tell({ doing: "reading", done: 0, total: undefined });
    const warnings: string[] = [];
    const { stop, gc, keepOld, keepForMs } = planIn(request, clock.now());
    const report = await node.pack({
      stop,
      findReferences: gc ? findReferences : undefined,
      keepOld,
      keepForMs,
      signal: asker.gone,
      warn: (message) => void warnings.push(message),
      progress: tell,
    });
    return { ...factsOf(path, report), warnings };
  };
}

/** @throws UsageError */
function planIn({ to, gc = true, keepOld = true, keepFor = 7 }: JsonObject, nowMs: number): PackPlan {
  if (keepFor !== null && !(typeof keepFor === "number" && keepFor >= 0)) {
    throw new UsageError("Cannot pack: keepFor must be a number of days, or null");
  }
  const keepForMs = keepFor === null ? undefined : keepFor * DAY_MS;
  if (typeof gc !== "boolean" || typeof keepOld !== "boolean") {
    throw new UsageError("Cannot pack: gc and keepOld must be true or false");
  }
  if (to === undefined || to === null) return { stop: tidOfTime(nowMs), gc, keepOld, keepForMs };
  if (typeof to !== "string" || !TID.test(to)) {
    throw new UsageError("Cannot pack: to must be a tid, 16 hex digits");
  }
  return { stop: BigInt(`0x${to}`), gc, keepOld, keepForMs };
}

const DAY_MS = 86_400_000;

const TID = /^[0-9a-f]{16}$/i;

/**
 * Has the node that listens there pack its file.
 * @param socket the path of its control socket
 * @throws UnavailableError when no node answers, ProtocolError, the signal's reason, and what a pack throws there
 */
export async function askToPack(
  host: Host,
  socket: string,
  { stop, gc, keepOld, keepForMs }: PackPlan,
  { signal, warn, progress }: PackListener,
): Promise<PackReport> {
  const request = {
    request: "pack",
    to: formatTid(stop),
    gc,
    keepOld,
    keepFor: keepForMs === undefined ? null : keepForMs / DAY_MS,
  } as const;
  const answer = await askForAnswer(host, socket, request, {
    signal,
    told: (line) => {
      if (isObject(line.progress)) progress(progressIn(line.progress));
    },
  });
  if (answer.error !== undefined) throw failureIn(answer, socket);
  if (Array.isArray(answer.warnings)) { for (const each of answer.warnings) warn(String(each)); }
  return reportIn(answer, socket);
}

function progressIn({ doing, done, total }: JsonObject): PackProgress {
  return {
    doing: doing === "searching" || doing === "copying" || doing === "clearing" ? doing : "reading",
    done: Number(done),
    total: typeof total === "number" ? total : undefined,
  };
}

/** The failure there, as if it had happened here. */
function failureIn({ error, hint, exitCode }: JsonObject, socket: string): ZrsError {
  const facts = { path: socket, ...(typeof hint === "string" && { hint }) };
  const Failure = exitCode === EXIT.usage
    ? UsageError
    : exitCode === EXIT.locked
    ? LockedError
    : exitCode === EXIT.disk
    ? DiskError
    : exitCode === EXIT.corrupt
    ? CorruptError
    : UnavailableError;
  return new Failure(String(error), facts);
}

/** @throws ProtocolError */
function reportIn(answer: JsonObject, socket: string): PackReport {
  const count = (name: string) => {
    const value = answer[name] ?? 0;
    if (typeof value === "number") return value;
    throw new ProtocolError(`Cannot understand what answers at ${socket}: ${name} must be a number`);
  };
  const { packed, tid, keptAs, keptFor } = answer;
  return {
    isPacked: packed === true,
    tid: typeof tid === "string" && TID.test(tid) ? BigInt(`0x${tid}`) : NO_TID,
    bytesBefore: count("bytesBefore"),
    bytesAfter: count("bytesAfter"),
    transactionsBefore: count("transactionsBefore"),
    transactionsAfter: count("transactionsAfter"),
    keptAs: typeof keptAs === "string" ? keptAs : undefined,
    blobsDropped: typeof answer.blobsDropped === "number" ? answer.blobsDropped : undefined,
    keptFor: isObject(keptFor) ? keptForIn(keptFor) : undefined,
  };
}

function keptForIn({ name, tid, heard }: JsonObject): KnownSecondary {
  const heardMs = Date.parse(String(heard));
  return {
    name: String(name),
    tid: typeof tid === "string" && TID.test(tid) ? BigInt(`0x${tid}`) : NO_TID,
    heardMs: Number.isNaN(heardMs) ? 0 : heardMs,
  };
}
