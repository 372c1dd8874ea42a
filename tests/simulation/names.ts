/**
 * The directory entries of a simulated disk: the names everybody sees, the names on the platter, and the
 * changes between the two. A power loss keeps any subset of the unsynced changes; each create, rename and
 * remove is kept whole or not at all. A directory is an entry like any other (those that the harness makes are
 * durable at once): one that is lost takes with it what was in it, synced or not.
 */
import type { Inode } from "./inode.ts";
import type { SeededRandom } from "./random.ts";

type NameChange =
  | {
    readonly sequence: number;
    readonly kind: "create" | "remove";
    readonly path: string;
    readonly inode: Inode;
  }
  | {
    readonly sequence: number;
    readonly kind: "rename";
    readonly from: string;
    readonly path: string;
    readonly inode: Inode;
  };

/** The directory part of an absolute path. */
export function parentOf(path: string): string {
  const at = path.lastIndexOf("/");
  return at <= 0 ? "/" : path.slice(0, at);
}

export class Names {
  #seen = new Map<string, Inode>();
  #durable = new Map<string, Inode>();
  #changes: NameChange[] = [];
  #sequence = 0;

  get(path: string): Inode | undefined {
    return this.#seen.get(path);
  }

  /** What a name is sure to name after a power loss, unless an unsynced change is kept. */
  durable(path: string): Inode | undefined {
    return this.#durable.get(path);
  }

  /** All names and what they name. */
  entries(): Iterable<[string, Inode]> {
    return this.#seen.entries();
  }

  /** All names on the platter, and what they name there. */
  durableEntries(): Iterable<[string, Inode]> {
    return this.#durable.entries();
  }

  /** The names in a directory. */
  list(directory: string): string[] {
    const names: string[] = [];
    for (const path of this.#seen.keys()) {
      if (path !== "/" && parentOf(path) === directory) names.push(path.slice(path.lastIndexOf("/") + 1));
    }
    return names;
  }

  /** Names this moment for {@link settle}. */
  mark(): number {
    return this.#sequence;
  }

  /** An entry that is durable at once. */
  place(path: string, inode: Inode): void {
    this.#seen.set(path, inode);
    this.#durable.set(path, inode);
    this.#forget(path);
  }

  /** Takes an entry away, durably. */
  erase(path: string): void {
    this.#seen.delete(path);
    this.#durable.delete(path);
    this.#forget(path);
  }

  /** What was to become of an entry does not become of the one that is there now. */
  #forget(path: string): void {
    this.#changes = this.#changes.filter((change) => change.path !== path);
  }

  create(path: string, inode: Inode): void {
    this.#change({ sequence: this.#sequence++, kind: "create", path, inode });
  }

  remove(path: string, inode: Inode): void {
    this.#change({ sequence: this.#sequence++, kind: "remove", path, inode });
  }

  rename(from: string, path: string, inode: Inode): void {
    this.#change({ sequence: this.#sequence++, kind: "rename", from, path, inode });
  }

  /** Changes in `directory` made before `mark` are durable from now on. */
  settle(directory: string, mark: number): void {
    const rest: NameChange[] = [];
    for (const change of this.#changes) {
      const here = parentOf(change.path) === directory ||
        (change.kind === "rename" && parentOf(change.from) === directory);
      if (here && change.sequence < mark) apply(this.#durable, change);
      else rest.push(change);
    }
    this.#changes = rest;
  }

  /** The power is lost. @returns how many changes were undone */
  crash(random: SeededRandom): number {
    const undone = this.#crashInto(this.#durable, random);
    this.#changes = [];
    this.#seen = new Map(this.#durable);
    return undone;
  }

  /** The names that a power loss now might leave; nothing is lost by asking. */
  crashImage(random: SeededRandom): Map<string, Inode> {
    const image = new Map(this.#durable);
    this.#crashInto(image, random);
    return image;
  }

  #crashInto(names: Map<string, Inode>, random: SeededRandom): number {
    const mode = random.pick(["lost", "kept", "prefix", "subset"]);
    const prefix = random.int(this.#changes.length + 1);
    let undone = 0;
    this.#changes.forEach((change, index) => {
      const kept = mode === "kept" || (mode === "prefix" && index < prefix) ||
        (mode === "subset" && random.chance(0.5));
      if (kept) apply(names, change);
      else undone++;
    });
    for (const path of [...names.keys()].sort()) { // a directory comes before what is in it
      if (path !== "/" && !names.has(parentOf(path))) names.delete(path);
    }
    return undone;
  }

  #change(change: NameChange): void {
    this.#changes.push(change);
    apply(this.#seen, change);
  }
}

/** Each change stands alone, so that any subset of them can be kept. */
function apply(names: Map<string, Inode>, change: NameChange): void {
  switch (change.kind) {
    case "create":
      names.set(change.path, change.inode);
      break;
    case "remove":
      if (names.get(change.path) === change.inode) names.delete(change.path);
      break;
    case "rename":
      if (names.get(change.from) === change.inode) names.delete(change.from);
      names.set(change.path, change.inode);
  }
}
