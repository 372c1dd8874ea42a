/**
 * Bugs that the simulator must find: each is planted in the world that one node's real code sees, and breaks
 * something that the promises need. A simulator that misses one has lost its eyes.
 */
import type { BlockFile, Connection, ReadableFile } from "../../lib/ports/mod.ts";
import { DisguisedConnection, DisguisedDisk, DisguisedFile, DisguisedNetwork } from "./disguise.ts";
import type { Ports } from "./machine.ts";
import type { Plan } from "./plan.ts";
import { DATA_FS } from "./replica.ts";
import type { Scheduler } from "./scheduler.ts";
import type { Happening } from "./weather.ts";

export interface PlantedBug {
  readonly name: string;
  /** Who may find it: a checker, or "world" for the world itself. */
  readonly foundBy: readonly string[];
  readonly node: "primary" | "replicas";
  /** What makes it show earlier. */
  readonly plan?: (drawn: Plan) => Plan;
  readonly plant: (ports: Ports, scheduler: Scheduler) => Ports;
  /** Puts a mistake into the code itself, for all nodes, until it is disposed of. */
  readonly patch?: () => Disposable;
}

const STATUS_AT = 16;
const HEADER = 23;
const VOTED = 0x63;
const COMMITTED = 0x20;

/** What a write to a replica's Data.fs is, by the bytes alone. */
type Kind = "fence" | "header" | "status" | "data";

function kindOf(bytes: Uint8Array): Kind {
  if (bytes.length === 1) return "status";
  if (bytes.length !== HEADER || bytes[STATUS_AT] !== VOTED) return "data";
  return new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(8) >= 2n ** 50n ? "fence" : "header";
}

/** A replica's Data.fs, with what was written since the last sync. */
class ReplicaFile extends DisguisedFile {
  protected readonly unsynced = new Set<Kind>();

  override writeAt(bytes: Uint8Array, position: number): void {
    this.unsynced.add(kindOf(bytes));
    super.writeAt(bytes, position);
  }

  override async sync(): Promise<void> {
    const kinds = new Set(this.unsynced);
    this.unsynced.clear();
    if (!this.skips(kinds)) await super.sync();
  }

  protected skips(_kinds: ReadonlySet<Kind>): boolean {
    return false;
  }
}

/** Plants a bug in what a node does with its Data.fs. */
function inFile(make: (file: ReadableFile, scheduler: Scheduler) => BlockFile): PlantedBug["plant"] {
  return (ports, scheduler) => ({
    ...ports,
    disk: new DisguisedDisk(
      ports.disk,
      (file) => file.path === DATA_FS ? make(file, scheduler) : file as BlockFile,
    ),
  });
}

function inConnections(make: (connection: Connection) => Connection): PlantedBug["plant"] {
  return (ports) => ({ ...ports, network: new DisguisedNetwork(ports.network, make) });
}

function missingSync(skips: (kinds: ReadonlySet<Kind>) => boolean): PlantedBug["plant"] {
  return inFile((file) =>
    new class extends ReplicaFile {
      protected override skips(kinds: ReadonlySet<Kind>): boolean {
        return skips(kinds);
      }
    }(file)
  );
}

/** A connection whose writes return before the bytes have been taken. */
class HastyConnection extends DisguisedConnection {
  #last: Promise<void> = Promise.resolve();

  override write(bytes: Uint8Array): Promise<void> {
    this.#last = this.#last.then(() => this.connection.write(bytes));
    this.#last.catch(() => {});
    return Promise.resolve();
  }
}

/** A secondary that asks for what follows another tid than its last. */
class ForgetfulConnection extends DisguisedConnection {
  #messages = 0;

  override write(bytes: Uint8Array): Promise<void> {
    this.#messages++;
    if (this.#messages !== 1 || bytes.length < 8) return super.write(bytes);
    const changed = bytes.slice();
    changed[changed.length - 1]! ^= 1;
    return super.write(changed);
  }
}

/** Much of one kind happens, little fits into a buffer, and every moment is one at which the power may be lost. */
function rough(...weather: readonly Happening[]): (plan: Plan) => Plan {
  return (plan) => {
    const { secondary } = plan;
    const buffers = { ...secondary.buffers, runBytes: 512 };
    return {
      ...plan,
      secondary: { ...secondary, buffers },
      weather,
      weatherEveryMs: 500,
      imageLikelihood: 1,
    };
  };
}

export const PLANTED_BUGS: readonly PlantedBug[] = [
  {
    name: "a follower that does not sync what it shows",
    foundBy: ["DurableChecker", "PrefixChecker"],
    node: "primary",
    plant: inFile((file) =>
      new class extends DisguisedFile {
        override sync(): Promise<void> {
          return Promise.resolve();
        }
      }(file)
    ),
  },
  {
    name: "a follower that does not sync the directory of a file that is new there",
    foundBy: ["DurableChecker", "PrefixChecker"],
    node: "primary",
    plant: (ports) => ({
      ...ports,
      disk: new class extends DisguisedDisk {
        override syncDirectory(): Promise<void> {
          return Promise.resolve();
        }
      }(ports.disk),
    }),
  },
  {
    name: "a follower that does not notice that its file has been replaced",
    foundBy: ["ConvergenceChecker", "world"],
    node: "primary",
    plant: (ports) => ({
      ...ports,
      disk: new class extends DisguisedDisk {
        #identity: string | undefined;

        override status(path: string): ReturnType<DisguisedDisk["status"]> {
          const status = super.status(path);
          if (status === undefined || path !== DATA_FS) return status;
          this.#identity ??= status.identity;
          return { ...status, identity: this.#identity };
        }
      }(ports.disk, (file) =>
        file.path !== DATA_FS ? file as BlockFile : new class extends DisguisedFile {
          override identity(): string {
            return ports.disk.status(DATA_FS)?.identity ?? super.identity();
          }
        }(file)),
    }),
  },
  {
    name: "a follower that takes the writer's lock",
    foundBy: ["NothingWrittenChecker"],
    node: "primary",
    plant: (ports) => {
      const disk = ports.disk;
      return {
        ...ports,
        disk: new class extends DisguisedDisk {
          override mark(path: string, use: "followed" | "owned"): ReturnType<DisguisedDisk["mark"]> {
            disk.lock(`${path}.lock`);
            return super.mark(path, use);
          }
        }(disk),
      };
    },
  },
  {
    name: "no sync of the fence before the run",
    foundBy: ["OpensChecker", "PrefixChecker"],
    node: "replicas",
    plan: rough("replica crashes"),
    plant: missingSync((kinds) => kinds.has("fence") && kinds.size === 1),
  },
  {
    name: "no fence at all",
    foundBy: ["OpensChecker", "PrefixChecker"],
    node: "replicas",
    plant: inFile((file) =>
      new class extends ReplicaFile {
        override writeAt(bytes: Uint8Array, position: number): void {
          if (kindOf(bytes) !== "fence") super.writeAt(bytes, position);
        }
      }(file)
    ),
  },
  {
    name: "no sync of a run before its status is set",
    foundBy: ["OpensChecker", "PrefixChecker"],
    node: "replicas",
    plant: missingSync((kinds) => kinds.has("header")),
  },
  {
    name: "no sync of the status before the run is shown",
    foundBy: ["DurableChecker"],
    node: "replicas",
    plant: missingSync((kinds) => kinds.has("status")),
  },
  {
    name: "one sync in ten forgotten",
    foundBy: ["DurableChecker", "OpensChecker", "PrefixChecker"],
    node: "replicas",
    plant: (ports, scheduler) => {
      let syncs = 0;
      return missingSync(() => ++syncs % 10 === 0)(ports, scheduler);
    },
  },
  {
    name: "a sync that is not waited for",
    foundBy: ["DurableChecker", "OpensChecker", "PrefixChecker"],
    node: "replicas",
    plant: inFile((file) =>
      new class extends DisguisedFile {
        override sync(): Promise<void> {
          super.sync().catch(() => {});
          return Promise.resolve();
        }
      }(file)
    ),
  },
  {
    name: "the status set before the run is written",
    foundBy: ["OpensChecker", "PrefixChecker"],
    node: "replicas",
    plant: inFile((file) =>
      new class extends ReplicaFile {
        override writeAt(bytes: Uint8Array, position: number): void {
          if (kindOf(bytes) !== "header") return super.writeAt(bytes, position);
          const final = bytes.slice();
          final[STATUS_AT] = COMMITTED;
          super.writeAt(final, position);
        }
      }(file)
    ),
  },
  {
    name: "no sync of what a killed process has left before it is shown",
    foundBy: ["DurableChecker"],
    node: "replicas",
    plan: rough("replicas killed"),
    plant: missingSync((kinds) => kinds.size === 0),
  },
  {
    name: "a torn end cut in one step",
    foundBy: ["OpensChecker"],
    node: "replicas",
    plan: rough("replicas killed", "replica crashes", "cut links"),
    plant: inFile((file) =>
      new class extends DisguisedFile {
        override truncate(size: number): void {
          const header = new Uint8Array(HEADER);
          this.readAt(header, Math.max(0, size - HEADER));
          if (header[STATUS_AT] !== VOTED || size < HEADER) super.truncate(size);
        }
      }(file)
    ),
  },
  {
    name: "a status that stays although its sync has failed",
    foundBy: ["DurableChecker"],
    node: "replicas",
    plan: rough("replicas' disks failing"),
    plant: inFile((file) =>
      new class extends ReplicaFile {
        override writeAt(bytes: Uint8Array, position: number): void {
          if (kindOf(bytes) !== "status" || bytes[0] !== VOTED) super.writeAt(bytes, position);
        }
      }(file)
    ),
  },
  {
    name: "a new file whose name is not on disk",
    foundBy: ["DurableChecker"],
    node: "replicas",
    plant: (ports) => ({
      ...ports,
      disk: new class extends DisguisedDisk {
        override syncDirectory(): Promise<void> {
          return Promise.resolve();
        }
      }(ports.disk),
    }),
  },
  {
    name: "a write that returns before the buffer has been read",
    foundBy: ["OpensChecker", "PrefixChecker", "world"],
    node: "replicas",
    plant: inFile((file, scheduler) =>
      new class extends ReplicaFile {
        override writeAt(bytes: Uint8Array, position: number): void {
          if (kindOf(bytes) !== "data" || bytes.length < 200) return super.writeAt(bytes, position);
          scheduler.after(0.01, () => super.writeAt(bytes, position));
        }
      }(file)
    ),
  },
  {
    name: "a buffer refilled while it is being sent",
    foundBy: ["ConvergenceChecker", "world"],
    node: "primary",
    plant: inConnections((connection) => new HastyConnection(connection)),
  },
  {
    name: "a stream resumed behind another transaction than the last",
    foundBy: ["ConvergenceChecker", "RefusalChecker"],
    node: "replicas",
    plant: inConnections((connection) => new ForgetfulConnection(connection)),
  },
  {
    name: "an old index saved with the position of a new one",
    foundBy: ["IndexChecker"],
    node: "replicas",
    plant: (ports) => {
      let first: Uint8Array | undefined;
      return {
        ...ports,
        disk: new DisguisedDisk(
          ports.disk,
          (file) =>
            !file.path.endsWith(".index_tmp") ? file as BlockFile : new class extends DisguisedFile {
              override writeAt(bytes: Uint8Array, position: number): void {
                first ??= bytes.slice();
                super.writeAt(withPositionOf(bytes, first), position);
              }
            }(file),
        ),
      };
    },
  },
  {
    name: "a timer in twenty that never fires",
    foundBy: ["ConvergenceChecker", "world"],
    node: "replicas",
    plant: (ports) => {
      let timers = 0;
      const { clock } = ports;
      return {
        ...ports,
        clock: {
          now: () => clock.now(),
          monotonic: () => clock.monotonic(),
          schedule: (delayMs, callback) => {
            const forgotten = ++timers % 20 === 0;
            return clock.schedule(delayMs, () => forgotten || callback());
          },
        },
      };
    },
  },
];

/** An index file's bytes with the position of another. Both begin with a pickle of an int, which ends in ".". */
function withPositionOf(other: Uint8Array, bytes: Uint8Array): Uint8Array {
  const end = (file: Uint8Array) =>
    [0, 0, 2, 3, 5][["K", "M", "J"].indexOf(String.fromCharCode(file[2]!)) + 2]! + 3;
  return new Uint8Array([...other.subarray(0, end(other)), ...bytes.subarray(end(bytes))]);
}
