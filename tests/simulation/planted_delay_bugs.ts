/** Bugs of replicas with a delay that the simulator must find. */
import { DelayedStorage } from "../../lib/filestorage/mod.ts";
import type { BlockFile, ReadableFile } from "../../lib/ports/mod.ts";
import { DisguisedDisk, DisguisedFile } from "./disguise.ts";
import type { Plan } from "./plan.ts";
import type { PlantedBug } from "./planted_bugs.ts";
import type { Happening } from "./weather.ts";

/** All replicas have a delay, and small segments. */
function delayed(...weather: readonly Happening[]): (drawn: Plan) => Plan {
  return (drawn) => ({
    ...drawn,
    replicas: drawn.replicas.map((each) => ({ ...each, applyDelayMs: 1_000 })),
    secrets: new Map(),
    secondary: { ...drawn.secondary, segmentBytes: 1_000 },
    weather,
    weatherEveryMs: 500,
    imageLikelihood: 1,
  });
}

/** Plants a bug in what is done with some files. */
function inFiles(which: RegExp, make: (file: ReadableFile) => BlockFile): PlantedBug["plant"] {
  return (ports) => ({
    ...ports,
    disk: new DisguisedDisk(ports.disk, (file) => which.test(file.path) ? make(file) : file as BlockFile),
  });
}

/** A file that says that it is on disk. */
class UnsyncedFile extends DisguisedFile {
  override async sync(): Promise<void> {}
}

/** A segment that is synced only by who has written to it. */
class ForgottenFile extends DisguisedFile {
  #isWritten = false;

  override writeAt(bytes: Uint8Array, position: number): void {
    this.#isWritten = true;
    super.writeAt(bytes, position);
  }

  override write(bytes: Uint8Array, position: number): Promise<void> {
    this.#isWritten = true;
    return super.write(bytes, position);
  }

  override async sync(): Promise<void> {
    if (this.#isWritten) await super.sync();
  }
}

/** All nodes ask for what is due in another way, until it is disposed of. */
function dueness(isDue: (decide: (tid: bigint) => boolean) => (tid: bigint) => boolean): Disposable {
  const { applyNext } = DelayedStorage.prototype;
  DelayedStorage.prototype.applyNext = function (decide) {
    return applyNext.call(this, isDue(decide));
  };
  return { [Symbol.dispose]: () => DelayedStorage.prototype.applyNext = applyNext };
}

export const PLANTED_DELAY_BUGS: readonly PlantedBug[] = [
  {
    name: "transactions applied a quarter of a second too early",
    foundBy: ["DelayChecker"],
    node: "replicas",
    plan: delayed("nothing"),
    plant: (ports) => ports,
    patch: () => dueness((decide) => (tid) => decide(tid - (1n << 24n))),
  },
  {
    name: "nothing is ever applied",
    foundBy: ["DelayChecker"],
    node: "replicas",
    plan: delayed("nothing"),
    plant: (ports) => ports,
    patch: () => dueness(() => () => false),
  },
  {
    name: "what has been applied is not synced before its segment goes",
    foundBy: ["DurableChecker", "OpensChecker", "PrefixChecker"],
    node: "replicas",
    plan: delayed("replica crashes"),
    plant: inFiles(/Data\.fs$/, (file) => new UnsyncedFile(file)),
  },
  {
    name: "what has been received is not synced",
    foundBy: ["AcknowledgementChecker", "DurableChecker", "OpensChecker", "PrefixChecker"],
    node: "replicas",
    plan: delayed("replica crashes"),
    plant: inFiles(/\.pending\./, (file) => new UnsyncedFile(file)),
  },
  {
    name: "no sync of what a killed process has left in the segments",
    foundBy: ["AcknowledgementChecker", "DurableChecker", "OpensChecker"],
    node: "replicas",
    plan: delayed("replicas killed"),
    plant: inFiles(/\.pending\./, (file) => new ForgottenFile(file)),
  },
];
