/** A node's status for a person: one screen, aligned. */
import { describeTid, parseTid } from "../../zodb/mod.ts";
import { formatBytes, formatDuration, oneLine } from "../quantities.ts";
import type { DelayAnswer, LagAnswer, PeerAnswer, SourceAnswer, StatusAnswer } from "./status_answer.ts";

/** More secondaries would not fit; those farthest behind are shown. */
const MAX_PEERS = 12;

type Row = readonly [label: string, ...lines: readonly string[]];

/** Ends with a line feed. */
export function formatStatus(status: StatusAnswer): string {
  const { role, version, pid, source, peers } = status;
  const rows: Row[] = [
    [role, `zrs ${version}, process ${pid}, up ${since(status.since, status.now)}`],
    ["file", `${status.path}, ${formatBytes(status.delay?.appliedBytes ?? status.bytes)}`],
    [status.delay === null ? "last" : "received", formatLast(status), ...tellFuture(status)],
    ...(status.delay === null ? [] : [formatDelay(status.delay, status.now)]),
    ...(status.problem === null ? [] : [["PROBLEM", status.problem] as const]),
    ...formatBlobs(status),
    ...(source === null ? [] : [formatSource(source, status.now)]),
    ...(status.replicateTo === null && peers.length === 0 ? [] : [formatPeers(status)]),
  ];
  const width = Math.max(...rows.map(([label]) => label.length)) + 2;
  return rows.flatMap(([label, ...lines]) =>
    lines.map((line, index) => `${(index === 0 ? label : "").padEnd(width)}${oneLine(line)}\n`)
  ).join("");
}

/** Copies without blobs' files are whole in no other sense, so it is said each time. */
function formatBlobs({ role, blobs, missingBlobs, path }: StatusAnswer): Row[] {
  if (blobs === "none") return [["BLOBS", "left out (--blobs none): records without their files"]];
  if (missingBlobs !== null && missingBlobs > 0) {
    return [[
      "BLOBS",
      `${missingBlobs} MISSING: the source had no files for them; ${path}.missing-blobs lists them`,
    ]];
  }
  if (blobs === "replicate") {
    return [["blobs", role === "primary" ? "sent with their records" : "replicated"]];
  }
  return blobs === "shared" ? [["blobs", "in a directory shared by both ends: not copied"]] : [];
}

/** The age of the last transaction says when something was last written, not how far behind anybody is. */
function formatLast(
  { lastTid, lastTime, now }: Pick<StatusAnswer, "lastTid" | "lastTime" | "now">,
): string {
  if (/^0+$/.test(lastTid)) return "no transaction yet";
  return lastTime === null ? lastTid : `${lastTid}, written ${lastTime} (${since(lastTime, now)} ago)`;
}

/** Tids are times of the primary's clock; by such a one what waits would wait for longer than the delay. */
function tellFuture({ lastTime, now, delay }: StatusAnswer): string[] {
  if (delay === null || lastTime === null) return [];
  const aheadMs = Date.parse(lastTime) - Date.parse(now);
  if (aheadMs <= delay.seconds * 1000) return [];
  return [
    `DATED ${formatDuration(aheadMs / 1000)} AHEAD of this machine's clock: it is applied that much later`,
  ];
}

function formatDelay(
  { seconds, appliedTid, appliedTime, waitingBytes, nextDue }: DelayAnswer,
  now: string,
): Row {
  const last = formatLast({ lastTid: appliedTid, lastTime: appliedTime, now });
  const due = nextDue === null ? "" : `, the next is due in ${since(now, nextDue)}`;
  const waiting = waitingBytes === 0 ? "nothing waits" : `${formatBytes(waitingBytes)} wait${due}`;
  return ["applied", last, `${waiting} (--apply-delay ${formatDuration(seconds)})`];
}

function formatSource(source: SourceAnswer, now: string): Row {
  const { address, connected, lastError, nextAttempt } = source;
  const duration = since(source.since, now);
  const error = lastError === null ? [] : [`last error ${since(lastError.at, now)} ago: ${lastError.words}`];
  const lag = formatOwnLag(source);
  const packed = source.packedTo === null
    ? []
    : [`packed there up to ${describeTid(parseTid(source.packedTo))}`];
  if (connected) {
    return [
      "source",
      `${address}, connected for ${duration}, ${source.protocol}`,
      ...lag,
      ...packed,
      ...error,
    ];
  }
  const next = nextAttempt === null ? "connecting now" : `trying again in ${since(now, nextAttempt)}`;
  return ["source", `${address}, NOT CONNECTED for ${duration}, ${next}`, ...error, ...lag, ...packed];
}

/** What is on disk of what is known of; and, where that is not all that there may be, why. */
function formatOwnLag(source: SourceAnswer): string[] {
  const { lag, receivedTid, durableTid, lastTid, connected, protocol } = source;
  if (lastTid !== null && lastTid < durableTid) {
    const end = /^0+$/.test(lastTid) ? "has nothing yet" : `ends with ${lastTid}, before this copy`;
    return [`IT ${end}: nothing comes from it until it has caught up`];
  }
  const all = lag.bytes === 0 && receivedTid === durableTid;
  const what = lag.against === "received" ? "was received" : "there is";
  const words = all ? `all that ${what} is on disk` : `${formatLag(lag)} what ${what}, up to ${receivedTid}`;
  if (lag.against !== "received") return [words];
  const why = connected ? `${protocol} does not tell what else the source has` : "the source may have more";
  return [words, `(${why})`];
}

function formatPeers({ peers, replicateTo, now }: StatusAnswer): Row {
  const at = replicateTo === null ? "" : `, at ${replicateTo}`;
  if (peers.length === 0) return ["serves", `no secondary${at}`];
  const shown = [...peers].sort((a, b) => urgency(b) - urgency(a)).slice(0, MAX_PEERS);
  const table = [
    ["ADDRESS", "PROTOCOL", "CONNECTED FOR", "LAST SENT", "BEHIND"],
    ...shown.map((peer) => [
      peer.address,
      peer.protocol,
      since(peer.since, now),
      /^0+$/.test(peer.sentTid) ? "nothing yet" : peer.sentTid,
      peer.lag.seconds === 0 && peer.lag.bytes === 0
        ? "nothing"
        : formatLag(peer.lag).replace(/ behind$/, ""),
    ]),
  ];
  const left = peers.length - shown.length;
  return [
    "serves",
    `${peers.length === 1 ? "1 secondary" : `${peers.length} secondaries`}${at}`,
    ...align(table),
    ...(left === 0 ? [] : [`and ${left} more; --json shows all`]),
  ];
}

/** Those whose lag is not known first. */
function urgency({ lag }: PeerAnswer): number {
  return lag.bytes ?? Infinity;
}

/** Columns with two blanks between them. */
function align(table: readonly (readonly string[])[]): string[] {
  const widths = table[0]!.map((_, column) => Math.max(...table.map((row) => row[column]!.length)));
  return table.map((row) => row.map((cell, column) => cell.padEnd(widths[column]!)).join("  ").trimEnd());
}

function formatLag({ seconds, bytes }: LagAnswer): string {
  const parts = [
    ...(seconds === null ? [] : [formatDuration(seconds)]),
    ...(bytes === null ? [] : [formatBytes(bytes)]),
  ];
  return parts.length === 0 ? "by what is not known" : `${parts.join(", ")} behind`;
}

/** The time from one moment to another; the clock may have been set back between. */
function since(from: string, to: string): string {
  return formatDuration(Math.max(0, (Date.parse(to) - Date.parse(from)) / 1000));
}
