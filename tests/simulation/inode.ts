/**
 * A file of a simulated disk: what everybody reads (the page cache), what is on the platter, and the changes
 * between the two, in order.
 *
 * A power loss leaves the platter's content with any part of the unsynced changes. Every sector of 512 bytes
 * has its content as of some moment since the last sync, each sector a moment of its own; the size likewise,
 * and where a write made the file grow, also any multiple of a sector between. Where the size is kept and a
 * sector is not, there are zeros or what was there before. A sector is never torn.
 */
import { Content } from "./content.ts";
import type { SeededRandom } from "./random.ts";

export const SECTOR = 512;

type Change =
  | { readonly sequence: number; readonly position: number; readonly bytes: Uint8Array }
  | { readonly sequence: number; readonly size: number };

/** What a power loss did to the unsynced changes of one file. */
export type Loss = "nothing unsynced" | "lost" | "kept" | "prefix" | "scattered" | "size only" | "data only";

export class Inode {
  readonly number: number;
  readonly kind: "file" | "directory";
  /** The page cache. */
  readonly cache: Content;
  /** A sync has failed and nobody has heard of it: the next one, whoever asks for it, tells. */
  untoldFailure = false;
  #durable: Content;
  #changes: Change[] = [];
  #sequence = 0;

  constructor(number: number, kind: "file" | "directory", bytes: Uint8Array = new Uint8Array(0)) {
    this.number = number;
    this.kind = kind;
    this.cache = new Content(bytes);
    this.#durable = new Content(bytes);
  }

  /** A copy of what a power loss is sure to leave if nothing unsynced is kept. */
  durableBytes(): Uint8Array {
    return this.#durable.view().slice();
  }

  /** The same without a copy: valid until the next change. */
  durableView(): Uint8Array {
    return this.#durable.view();
  }

  /** What a power loss now might leave; nothing is lost by asking. */
  crashImage(random: SeededRandom): Uint8Array {
    return surviving(this.#durable, this.#changes, random).content.view().slice();
  }

  /** Names this moment for {@link settle}. */
  mark(): number {
    return this.#sequence;
  }

  write(bytes: Uint8Array, position: number): void {
    if (bytes.length === 0) return;
    this.cache.write(bytes, position);
    this.#changes.push({ sequence: this.#sequence++, position, bytes: bytes.slice() });
  }

  truncate(size: number): void {
    this.cache.resize(size);
    this.#changes.push({ sequence: this.#sequence++, size });
  }

  /**
   * Changes made before `mark` are on the platter from now on.
   * @returns the lowest position that has changed there; Infinity when none has
   */
  settle(mark: number): number {
    let lowest = Infinity;
    for (const change of this.#takeBefore(mark)) {
      apply(this.#durable, change);
      lowest = Math.min(lowest, "bytes" in change ? change.position : change.size);
    }
    return lowest;
  }

  /**
   * A sync failed: of the changes made before `mark` any part is on the platter, and the rest counts as
   * written although it is not. The page cache shows all of it until the power is lost.
   */
  settleFailed(mark: number, random: SeededRandom): void {
    this.#durable = surviving(this.#durable, this.#takeBefore(mark), random).content;
  }

  /** The power is lost: the file has what a reboot finds, and nothing is unsynced. */
  crash(random: SeededRandom): Loss {
    const { content, loss } = surviving(this.#durable, this.#changes, random);
    this.#changes = [];
    this.#durable = content;
    this.cache.resize(0);
    this.cache.write(content.view(), 0);
    return loss;
  }

  #takeBefore(mark: number): Change[] {
    let count = 0;
    while (count < this.#changes.length && this.#changes[count]!.sequence < mark) count++;
    return this.#changes.splice(0, count);
  }
}

function apply(content: Content, change: Change): void {
  if ("bytes" in change) content.write(change.bytes, change.position);
  else content.resize(change.size);
}

/** What a power loss leaves of `base` with the unsynced `changes`. */
function surviving(
  base: Content,
  changes: readonly Change[],
  random: SeededRandom,
): { content: Content; loss: Loss } {
  if (changes.length === 0) return { content: base, loss: "nothing unsynced" };
  const all = changes.length;
  const loss = random.pick<Loss>([
    "lost",
    "kept",
    "prefix",
    "scattered",
    "scattered",
    "size only",
    "data only",
  ]);
  switch (loss) {
    case "lost":
      return { content: base, loss };
    case "kept":
      return { content: assemble(base, changes, all, () => all), loss };
    case "prefix": {
      const whole = random.int(all);
      const content = assemble(base, changes, whole, () => whole);
      const next = changes[whole]!;
      // The write under way was stopped at the end of a sector.
      if ("bytes" in next) content.write(next.bytes.subarray(0, sectorCut(next, random)), next.position);
      return { content, loss };
    }
    case "size only":
      return { content: assemble(base, changes, all, () => 0), loss };
    case "data only":
      return { content: assemble(base, changes, 0, () => all), loss };
    default: {
      const likelihood = random.pick([0.1, 0.5, 0.9]);
      const moment = () => random.chance(likelihood) ? all : random.chance(0.5) ? 0 : random.int(all + 1);
      const content = assemble(base, changes, moment(), moment);
      const size = betweenSizes(base, changes, content.size, random);
      if (size < content.size) content.resize(size);
      return { content, loss };
    }
  }
}

/** Where a write ends that stops at the end of one of its sectors, as an offset into its bytes. */
function sectorCut(change: { position: number; bytes: Uint8Array }, random: SeededRandom): number {
  const first = Math.floor(change.position / SECTOR);
  const last = Math.floor((change.position + change.bytes.length - 1) / SECTOR);
  const end = (first + random.int(last - first + 1)) * SECTOR;
  return Math.max(0, Math.min(change.bytes.length, end - change.position));
}

/** Sometimes a size at the end of a sector between the size before the changes and `size`. */
function betweenSizes(base: Content, changes: readonly Change[], size: number, random: SeededRandom): number {
  const shrinks = changes.some((change) => "size" in change);
  if (shrinks || size - base.size <= SECTOR || !random.chance(0.3)) return size;
  const sectors = Math.floor((size - base.size) / SECTOR);
  return Math.floor(base.size / SECTOR + 1 + random.int(sectors)) * SECTOR;
}

/**
 * The file with its size as of `sizeMoment` and every sector as of `momentOf` it, where moment n is after the
 * first n changes.
 */
function assemble(
  base: Content,
  changes: readonly Change[],
  sizeMoment: number,
  momentOf: (sector: number) => number,
): Content {
  const moments = new Map<number, number>();
  const momentOfSector = (sector: number): number => {
    const known = moments.get(sector);
    if (known !== undefined) return known;
    const drawn = momentOf(sector);
    moments.set(sector, drawn);
    return drawn;
  };
  const data = new Content(base.view());
  let size = base.size;
  changes.forEach((change, index) => {
    const start = "bytes" in change ? change.position : change.size;
    const end = "bytes" in change ? start + change.bytes.length : data.size;
    for (let at = start; at < end;) {
      const sector = Math.floor(at / SECTOR);
      const stop = Math.min(end, (sector + 1) * SECTOR);
      if (index < momentOfSector(sector)) {
        if ("bytes" in change) data.write(change.bytes.subarray(at - start, stop - start), at);
        else data.clear(at, stop);
      }
      at = stop;
    }
    if (index < sizeMoment) size = "bytes" in change ? Math.max(size, end) : start;
  });
  data.resize(size);
  return data;
}
