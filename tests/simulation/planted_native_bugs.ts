/**
 * Bugs of the native stream that the simulator must find: frames that a node says or hears otherwise than it
 * should, and checks that are left out while what they are for happens.
 */
import { GrowingDigest } from "../../lib/filestorage/mod.ts";
import { RawChecker } from "../../lib/filestorage/raw_run.ts";
import { SourceHandshake } from "../../lib/native/mod.ts";
import type { BlockFile, Connection } from "../../lib/ports/mod.ts";
import { DisguisedDisk, DisguisedFile, DisguisedNetwork } from "./disguise.ts";
import { type Frame, messageOf, type NativeMessage } from "./native_tap.ts";
import type { Plan } from "./plan.ts";
import type { PlantedBug } from "./planted_bugs.ts";
import { BrokenOffConnection, type BrokenOffRuns } from "./broken_off.ts";
import { HastyAcknowledger, ReframedConnection, TamperedConnection } from "./reframed.ts";
import type { Happening } from "./weather.ts";

/**
 * All speak the native stream without compression, secrets or blobs, whose frames the tampering ends do not know, and
 * rewind as far as they are told to.
 */
function native(drawn: Plan): Plan {
  return {
    ...drawn,
    replicas: drawn.replicas.map((each) => ({ ...each, rewindLimit: 1_000 })),
    secrets: new Map(),
    work: { ...drawn.work, blobs: 0 },
    secondary: { ...drawn.secondary, protocol: "native", compress: "off" },
  };
}

function nativeIn(weather: readonly Happening[], packs = 0): (drawn: Plan) => Plan {
  return (drawn) => {
    const plan = native(drawn);
    return { ...plan, weather, weatherEveryMs: 500, work: { ...plan.work, packs } };
  };
}

/** Large transactions as bytes, through buffers that hold none of them. */
function nativeLarge(drawn: Plan): Plan {
  const plan = nativeIn(["cut links", "nothing"])(drawn);
  const buffers = { readBytes: 1_024, runBytes: LARGE_BYTES, sendBytes: 2_000 };
  return {
    ...plan,
    work: { ...plan.work, transactions: 15, large: 0.8 },
    primary: { ...plan.primary, buffers, compress: "off" },
    secondary: { ...plan.secondary, buffers },
  };
}

/** Plants a bug in the connections that a node makes to its source, or in those that it accepts. */
function inConnections(
  which: "made" | "accepted",
  make: (connection: Connection) => Connection,
): PlantedBug["plant"] {
  return (ports) => ({
    ...ports,
    network: new DisguisedNetwork(
      ports.network,
      (connection, how) => how === which ? make(connection) : connection,
    ),
  });
}

/** Control messages that are written, or come, as others; null for none. */
function messagesChanged(
  changes: {
    readonly written?: (message: NativeMessage) => NativeMessage | null;
    readonly read?: (message: NativeMessage) => NativeMessage | null;
  },
): (connection: Connection) => Connection {
  const changed = (frame: Frame, change: typeof changes.written): readonly Uint8Array[] => {
    const message = messageOf(frame);
    if (message === undefined || change === undefined) return [frame.body];
    const other = change(message);
    return other === null ? [] : [new TextEncoder().encode(JSON.stringify(other))];
  };
  return (connection) =>
    new class extends ReframedConnection {
      protected override onWrite(frame: Frame): readonly Uint8Array[] {
        return changed(frame, changes.written);
      }
      protected override onRead(frame: Frame): readonly Uint8Array[] {
        return changed(frame, changes.read);
      }
    }(connection);
}

/** While it is held, runs are taken as they come: their links are not followed, nor, unless told to, their records read. */
function takeRunsUnchecked(readsRecords: boolean): Disposable {
  const { check } = RawChecker.prototype;
  RawChecker.prototype.check = (reader, position, _lastTid, examine) => {
    reader.read(position);
    while (readsRecords && reader.nextRecord() >= 0) examine(reader);
    return reader.tid;
  };
  return { [Symbol.dispose]: () => void (RawChecker.prototype.check = check) };
}

/** While it is held, large transactions are taken as they come. */
function takeLargeUnchecked(): Disposable {
  const { checkLarge } = RawChecker.prototype;
  RawChecker.prototype.checkLarge = (reader, position) => {
    reader.read(position);
    return Promise.resolve(reader.tid);
  };
  return { [Symbol.dispose]: () => void (RawChecker.prototype.checkLarge = checkLarge) };
}

/** While it is held, whatever two ends have of a transaction counts as the same. */
function digestNothing(): Disposable {
  const { upTo } = GrowingDigest.prototype;
  GrowingDigest.prototype.upTo = () => Promise.resolve("0".repeat(64));
  return { [Symbol.dispose]: () => void (GrowingDigest.prototype.upTo = upTo) };
}

/** While it is held, a source takes every hello. */
function serveEverybody(): Disposable {
  const prototype = SourceHandshake.prototype;
  const isDone = Object.getOwnPropertyDescriptor(prototype, "isDone")!;
  const { take } = prototype;
  Object.defineProperty(prototype, "isDone", { configurable: true, get: () => true });
  prototype.take = function (message, body) {
    return message.type === "hello" ? undefined : take.call(this, message, body);
  };
  return {
    [Symbol.dispose]: () => {
      Object.defineProperty(prototype, "isDone", isDone);
      prototype.take = take;
    },
  };
}

/** Says in its hello that its file ends where the source's does with the same tid. */
function confusedEnds(): PlantedBug["plant"] {
  const endOf = new Map<unknown, unknown>();
  return inConnections(
    "made",
    messagesChanged({
      read: (message) => {
        if (message.end !== undefined) endOf.set(message.lastTid, message.end);
        return message;
      },
      written: (message) =>
        message.type === "hello" ? { ...message, end: endOf.get(message.lastTid) ?? message.end } : message,
    }),
  );
}

/** Takes the oldest transaction that it was asked about for the last common one. */
function rewindsTooFar(connection: Connection): Connection {
  let oldest: string | undefined;
  return messagesChanged({
    read: (message) => {
      const { transactions } = (message.question ?? {}) as { transactions?: { tid: string }[] };
      const first = transactions?.[0]?.tid;
      if (first !== undefined && (oldest === undefined || first < oldest)) oldest = first;
      return message.type === "refused" && message.commonTid !== undefined && oldest !== undefined
        ? { ...message, commonTid: oldest }
        : message;
    },
  })(connection);
}

/** Changes the link of a run's first record to what was before. */
function bendLink(run: Uint8Array, isRecord: boolean): void {
  if (isRecord || run.length < 80) return;
  const view = new DataView(run.buffer, run.byteOffset);
  const head = 23 + view.getUint16(17) + view.getUint16(19) + view.getUint16(21);
  const previous = head + 23;
  if (previous < run.length && run[previous] !== 0) run[previous]! ^= 1;
}

/** Plants connections that break off behind the beginning of a large transaction. */
function inBrokenOff(runs: Omit<BrokenOffRuns, "least" | "left">): PlantedBug["plant"] {
  return (ports, scheduler) => {
    const ofNode: BrokenOffRuns = { ...runs, least: 3 * LARGE_BYTES, left: BROKEN_OFF };
    return inConnections("made", (connection) => new BrokenOffConnection(connection, ofNode))(
      ports,
      scheduler,
    );
  };
}

const withoutBeats = messagesChanged({ written: (message) => message.type === "beat" ? null : message });

/** What a run of several transactions has at most, where large ones are looked for. */
const LARGE_BYTES = 4_096;

/** So often is a node's connection broken off, so that it can come to rest in the end. */
const BROKEN_OFF = 3;

export const PLANTED_NATIVE_BUGS: readonly PlantedBug[] = [
  {
    name: "an acknowledgement before the sync",
    foundBy: ["AcknowledgementChecker"],
    node: "replicas",
    plan: native,
    plant: inConnections("made", (connection) => new HastyAcknowledger(connection)),
  },
  {
    name: "a checksum that is not compared",
    foundBy: ["PrefixChecker"],
    node: "replicas",
    plan: native,
    plant: inConnections("made", (connection) =>
      new TamperedConnection(connection, (content, isRecord) => {
        if (isRecord) content[content.length - 1]! ^= 1;
      })),
  },
  {
    name: "bytes of another layout taken without being checked",
    foundBy: ["OpensChecker", "PrefixChecker"],
    node: "replicas",
    plan: nativeIn(["cut links", "replicas stopped"], 0.2),
    plant: (ports, scheduler) => confusedEnds()(ports, scheduler),
    patch: () => takeRunsUnchecked(false),
  },
  {
    name: "a link that is not followed",
    foundBy: ["PrefixChecker"],
    node: "replicas",
    plan: native,
    plant: inConnections("made", (connection) => new TamperedConnection(connection, bendLink)),
    patch: () => takeRunsUnchecked(true),
  },
  {
    name: "a large transaction gone on with behind other bytes than the source's",
    foundBy: ["PrefixChecker"],
    node: "replicas",
    plan: nativeLarge,
    plant: inBrokenOff({
      change: (content, offset) => {
        if (offset > LARGE_BYTES) content[content.length - 1]! ^= 1;
      },
      claimsSame: false,
    }),
    patch: digestNothing,
  },
  {
    name: "a large transaction gone on with and taken without being checked",
    foundBy: ["PrefixChecker"],
    node: "replicas",
    plan: nativeLarge,
    plant: inBrokenOff({
      change: (content, offset) => {
        if (offset === 0) bendLink(content, false);
      },
      claimsSame: true,
    }),
    patch: takeLargeUnchecked,
  },
  {
    name: "a replica that holds whatever it is asked about",
    foundBy: ["LineageChecker"],
    node: "replicas",
    plan: nativeIn(["sources restored", "clocks set"]),
    plant: inConnections(
      "made",
      messagesChanged({
        written: (message) => {
          const { kind, held } = (message.answer ?? {}) as { kind?: string; held?: string[] };
          return kind === "holds" ? { ...message, answer: { kind, held: held!.map(() => "same") } } : message;
        },
      }),
    ),
  },
  {
    name: "a source that refuses nobody",
    foundBy: ["LineageChecker"],
    node: "primary",
    plan: nativeIn(["sources restored", "nothing"]),
    plant: inConnections(
      "accepted",
      messagesChanged({
        written: (message) =>
          message.type === "refused"
            ? {
              type: "welcome",
              version: 1,
              software: "zrs",
              capabilities: [],
              lastTid: "0".repeat(16),
              end: 4,
              beatMs: 1_000,
            }
            : message,
      }),
    ),
  },
  {
    name: "a secondary that says no beats",
    foundBy: ["BeatChecker"],
    node: "replicas",
    plan: native,
    plant: inConnections("made", withoutBeats),
  },
  {
    name: "a source that says no beats",
    foundBy: ["BeatChecker"],
    node: "primary",
    plan: native,
    plant: inConnections("accepted", withoutBeats),
  },
  {
    name: "a source that asks for a secret and does not wait for the proof",
    foundBy: ["StrangerChecker"],
    node: "primary",
    plan: (drawn) => ({ ...native(drawn), secrets: new Map([["S", "a secret of the source"]]) }),
    plant: (ports) => ports,
    patch: serveEverybody,
  },
  {
    name: "what is taken back saved without a sync",
    foundBy: ["DurableChecker"],
    node: "replicas",
    plan: (drawn) => ({ ...nativeIn(["sources restored", "replica crashes"])(drawn), imageLikelihood: 1 }),
    plant: (ports) => ({
      ...ports,
      disk: new DisguisedDisk(
        ports.disk,
        (file) =>
          !file.path.includes(".rewound-") ? file as BlockFile : new class extends DisguisedFile {
            override sync(): Promise<void> {
              return Promise.resolve();
            }
          }(file),
      ),
    }),
  },
  {
    name: "more taken back than the source lacks",
    foundBy: ["RewindChecker"],
    node: "replicas",
    plan: nativeIn(["sources restored", "nothing"]),
    plant: inConnections("made", rewindsTooFar),
  },
];
