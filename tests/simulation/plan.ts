/** What a world is like, drawn from its seed: who replicates from whom, how much happens, and how often. */
import type { BufferSizes, Compress } from "../../lib/replica/mod.ts";
import type { SeededRandom } from "./random.ts";
import type { SourceOptions, Work } from "./source.ts";
import { drawSecrets, type Secrets } from "./strangers.ts";
import type { Happening } from "./weather.ts";

export interface PlannedReplica {
  readonly name: string;
  /** Whom it replicates from: "S", or a replica planned before it. */
  readonly from: string;
  /** When it begins; 0 for at once. */
  readonly lateMs: number;
  /** Whether it then begins with a copy of the source's file. */
  readonly copy: boolean;
  /** How many transactions it may take back by itself (`--rewind auto`); 0 for none. */
  readonly rewindLimit: number;
  /** How old a transaction must be to be applied (`--apply-delay`); 0 for at once. */
  readonly applyDelayMs: number;
}

export interface Plan {
  readonly replicas: readonly PlannedReplica[];
  readonly secrets: Secrets;
  readonly weatherMs: number;
  readonly work: Omit<Work, "random">;
  readonly source: SourceOptions;
  readonly primary: {
    readonly peerTimeoutMs: number;
    readonly lookEveryMs: number;
    readonly buffers: BufferSizes;
    readonly compress: Compress;
  };
  readonly secondary: {
    readonly keepAliveMs: number;
    readonly retryMaxMs: number;
    readonly indexSaveMs: number;
    readonly peerTimeoutMs: number;
    readonly buffers: BufferSizes;
    readonly protocol: "auto" | "native" | "zrs2";
    readonly compress: Compress;
    readonly segmentBytes: number;
  };
  readonly syncMostMs: number;
  readonly missedChanges: number;
  readonly imageLikelihood: number;
  /** The mean time between two events of the weather. */
  readonly weatherEveryMs: number;
  /** Only these events happen, all equally often; the seed chooses unless given. */
  readonly weather?: readonly Happening[];
}

const ARRANGEMENTS: readonly (readonly (readonly [name: string, from: string])[])[] = [
  [["R", "S"]],
  [["R", "S"], ["C", "R"]],
  [["R", "S"], ["C", "R"]],
  [["R", "S"], ["Q", "S"]],
  [["R", "S"], ["Q", "S"], ["C", "R"]],
  [["R", "S"], ["C", "R"], ["D", "C"]],
];

export function drawPlan(random: SeededRandom): Plan {
  const weatherMs = random.between(4_000, 20_000);
  const bulky = random.chance(0.1);
  const transactions = bulky ? random.between(5, 15) : random.chance(0.05) ? 200 : random.between(5, 60);
  const peerTimeoutMs = random.between(2_000, 8_000);
  const readBytes = random.pick(bulky ? [4_096, 65_536] : [64, 1_024, 4_096, 65_536]);
  const arrangement = random.pick(ARRANGEMENTS);
  return {
    replicas: arrangement.map(([name, from]) => {
      const late = random.chance(0.3);
      return {
        name,
        from,
        lateMs: late ? random.int(weatherMs) : 0,
        copy: late && random.chance(0.5),
        rewindLimit: random.fork(`rewinding of ${name}`).pick([0, 0, 0, 1, 3, 1_000]),
        applyDelayMs: random.fork(`delay of ${name}`).pick([0, 0, 0, 30, 1_000, 60_000]),
      };
    }),
    secrets: drawSecrets(random.fork("secrets"), ["S", ...arrangement.map(([name]) => name)]),
    weatherMs,
    work: {
      transactions,
      everyMs: (weatherMs / transactions) * random.pick([0.1, 0.5, 1]),
      packs: random.pick([0, 0, 0.02, 0.1]),
      aborts: random.pick([0, 0.15, 0.4]),
      undos: random.pick([0, 0.1, 0.3]),
      large: bulky ? 0.8 : 0.1,
      blobs: random.fork("blobs").pick([0, 0, 0.2]),
    },
    source: {
      syncs: !random.chance(0.2),
      syncsPack: random.chance(0.5),
      pauses: random.pick([
        { likelihood: 0.5, mostMs: 2 },
        { likelihood: 0.5, mostMs: 50 },
        { likelihood: 0.2, mostMs: 500 },
      ]),
    },
    primary: {
      peerTimeoutMs,
      lookEveryMs: random.pick([100, 1_000]),
      buffers: buffers(random, readBytes),
      compress: random.pick(COMPRESS),
    },
    secondary: {
      keepAliveMs: random.pick([200, 1_000]),
      retryMaxMs: random.pick([200, 2_000]),
      indexSaveMs: random.pick([300, 2_000, 60_000]),
      peerTimeoutMs,
      buffers: buffers(random, readBytes),
      protocol: random.pick(["auto", "auto", "native", "zrs2"]),
      compress: random.pick(COMPRESS),
      segmentBytes: random.fork("segments").pick([1, 3_000, 1_000_000]),
    },
    syncMostMs: random.pick([1, 8, 8, 60]),
    missedChanges: random.pick([0, 0.1, 0.1, 1]),
    imageLikelihood: random.pick([0.05, 0.3]),
    weatherEveryMs: random.pick([150, 500, 1_500]),
  };
}

const COMPRESS: readonly Compress[] = ["auto", "on", "off"];

function buffers(random: SeededRandom, readBytes: number): BufferSizes {
  return {
    readBytes,
    runBytes: random.pick([512, 4_096, 30_000, 300_000]),
    sendBytes: random.pick([256, 2_000, 20_000, 200_000]),
  };
}
