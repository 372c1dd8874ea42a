/**
 * Checks what a secondary and its source say to each other by the native stream. The source's word on how the two
 * histories relate is compared with that of a judge who sees both files whole; what the secondary acknowledges
 * must be on its platter; and in calm weather each end is heard as often as was agreed.
 */
import { NaiveJudge } from "../replica/lineage_kit.ts";
import { hex, type Report } from "./checkers.ts";
import { FileView } from "./file_view.ts";
import { type Frame, messageOf, type NativeListener, type NativeMessage } from "./native_tap.ts";
import type { Tracked } from "./tracked_file.ts";

/** A source may be so late to notice that its file is another: it looks once a second, and a look may fail. */
const UNNOTICED_MS = 10_000;
/** A source shows what it has synced; so many of its last transactions may not have been when its file was replaced. */
const UNSYNCED = 20;
/** What a beat may be late by, beside the time until the next: writes, syncs, the way. */
const LATE_MS = 500;

/** What a conversation is about. */
export interface Ends {
  readonly name: string;
  readonly replica: Tracked;
  readonly source: Tracked;
  /** Simulated milliseconds. */
  readonly nowMs: () => number;
  /** Whether nothing befalls the two any more. */
  readonly isCalm: () => boolean;
  readonly report: Report;
  /** Words that were found right, each with what it was about: there they need not be judged again. */
  readonly right: Set<string>;
  /** Told of each word that is found right. */
  readonly judged: (word: string) => void;
}

/** A word as text: the same for the same verdict, whoever gives it. */
type Verdict = string;

export class ConversationChecker implements NativeListener {
  readonly #ends: Ends;
  /** What befell an older connection may go unnoticed for long. */
  readonly #wasCalm: boolean;
  #hello: { readonly atMs: number; readonly file: Uint8Array; readonly durable: number } | undefined;
  #beatMs: number | undefined;
  /** When each end was last heard. */
  readonly #last: { replica: number; source: number };

  constructor(ends: Ends) {
    this.#ends = ends;
    this.#wasCalm = ends.isCalm();
    this.#last = { replica: ends.nowMs(), source: ends.nowMs() };
  }

  said(frame: Frame): void {
    if (frame.kind === "A") return this.#acknowledges(frame.body);
    const message = messageOf(frame);
    if (message?.type === "hello") this.#greets(message);
  }

  heard(frame: Frame): void {
    const message = messageOf(frame);
    if (message?.type === "welcome") {
      this.#beatMs = Math.max(100, Math.min(this.#beatMs ?? Infinity, Number(message.beatMs)));
      this.#judge(verdictOfWelcome(message));
    } else if (message?.type === "refused" && (message.code === "ahead" || message.code === "forked")) {
      this.#judge(`${message.code}, common ${message.commonTid ?? "none"}, exact ${message.exact === true}`);
    }
  }

  closed(): void {
    this.#beatMs = undefined;
  }

  /** Whether both ends have said something lately; for a connection that rests. */
  checkBeats(): void {
    this.#checkBeat("replica");
    this.#checkBeat("source");
  }

  spoke(end: "replica" | "source"): void {
    this.#checkBeat(end);
    this.#last[end] = this.#ends.nowMs();
  }

  #checkBeat(end: "replica" | "source"): void {
    const { nowMs, report, name } = this.#ends;
    if (this.#beatMs === undefined || !this.#wasCalm) return;
    const silentMs = nowMs() - this.#last[end];
    if (silentMs <= 2 * this.#beatMs + LATE_MS) return;
    const who = end === "replica" ? name : `the source of ${name}`;
    report("BeatChecker", `${who} has said nothing for ${silentMs} ms; agreed on were ${this.#beatMs}`);
  }

  #acknowledges(body: Uint8Array): void {
    const tid = new DataView(body.buffer, body.byteOffset).getBigUint64(9);
    const { replica, report, name } = this.#ends;
    if (replica.durable.has(tid) && replica.existsDurably) return;
    report("AcknowledgementChecker", `${name} acknowledges ${hex(tid)}, which a power loss would take`);
  }

  #greets({ lastTid, beatMs }: NativeMessage): void {
    const { replica, source, nowMs } = this.#ends;
    this.#beatMs = Number(beatMs);
    const count = replica.live.indexOf(BigInt(`0x${lastTid}`)) + 1;
    this.#hello = {
      atMs: nowMs(),
      file: replica.live.bytesOf(count),
      durable: source.durable.transactions.length,
    };
  }

  /** Compares what the source says with what follows from a state that its file has had lately. */
  #judge(word: Verdict): void {
    const { source, replica, nowMs, report, name, judged } = this.#ends;
    const hello = this.#hello;
    if (hello === undefined) return;
    const about = [word, hello.file.length, replica.pastCount, source.live.end, source.pastCount].join();
    if (this.#ends.right.has(about)) return;
    const past = source.past.filter(({ untilMs }) => untilMs >= hello.atMs - UNNOTICED_MS);
    const right = new Set<Verdict>();
    const wasReplaced = past.some(({ untilMs }) => untilMs >= hello.atMs); // `durable` was of another file then
    for (const view of [source.live, ...past.map(({ view }) => view).toReversed()]) {
      if (view.outcome === "damaged" || !view.rises) return; // what can be read of it is no matter of content
      const all = view.transactions.length;
      // Of a file that is new, or was there before, it may not have seen the newest.
      const seen = past.length > 0 ? all - UNSYNCED : all;
      const least = wasReplaced || view !== source.live ? seen : Math.min(seen, hello.durable);
      for (let count = all; count >= Math.max(0, least); count--) {
        const verdict = verdictOf(view, count, hello.file);
        if (verdict === undefined) return;
        if (verdict === word) {
          if (view === source.live) this.#ends.right.add(about);
          return judged(word.split(",")[0]!);
        }
        right.add(verdict);
      }
    }
    report(
      "LineageChecker",
      `${name} is told after ${nowMs() - hello.atMs} ms that it is ${word}; right is ${
        [...right].join(" or ")
      }`,
    );
  }
}

/** @returns undefined where a power loss has left a file in which not everything is regular */
function verdictOf(source: FileView, count: number, replica: Uint8Array): Verdict | undefined {
  let judge: NaiveJudge;
  try {
    judge = new NaiveJudge({ bytes: source.bytesOf(count) }, { bytes: replica });
  } catch {
    return undefined;
  }
  const lineage = judge.lineage();
  switch (lineage.kind) {
    case "shared":
      return "shared";
    case "beyond the pack": {
      const { common, packedAway } = lineage;
      const before = packedAway === undefined ? undefined : textOf(packedAway.before, "the end");
      return `beyond the pack, common ${textOf(common)}, gone up to ${before ?? "nothing"}`;
    }
    case "ahead": {
      const isExact = (lineage.common ?? 0n) === (judge.source.at(-1)?.tid ?? 0n);
      return `ahead, common ${textOf(lineage.common)}, exact ${isExact}`;
    }
    case "forked":
      return `forked, common ${textOf(lineage.common)}, exact ${lineage.exact}`;
  }
}

function verdictOfWelcome({ notice }: NativeMessage): Verdict {
  if (notice === undefined || notice === null) return "shared";
  const text = String(notice);
  const [, common] = /compared and is the same is ([0-9a-f]{16})/.exec(text) ?? [];
  const [, end] = /; between .* and ([0-9a-f]{16}|the end)\b.* may have been packed away/.exec(text) ?? [];
  return `beyond the pack, common ${common ?? "none"}, gone up to ${end ?? "nothing"}`;
}

function textOf(tid: bigint | undefined, none = "none"): string {
  return tid === undefined ? none : hex(tid);
}
