/**
 * Which object refers to which: whether all that are referred to are there, and which can be reached from the
 * root. Made of current revisions only. Memory goes by objects and references: some 27 bytes an object and 4 a
 * reference, in a few large arrays.
 */
import { viewOf } from "../../bytes/mod.ts";
import type { Finding } from "./finding.ts";
import { RECORD } from "../layout.ts";
import { ObjectIndex } from "../index/object_index.ts";
import { OBJECT_STATE } from "./record_scanner.ts";
import type { ByteSource } from "../window.ts";

export class ReferenceGraph {
  /** Objects that cannot be reached; undefined without a root. */
  unreachable: number | undefined;

  readonly #source: ByteSource;
  readonly #index: ObjectIndex;
  /** For each object its number plus 1, by ascending oid. */
  readonly #numbers = new ObjectIndex();
  /** Where the object with each number has its current record. */
  readonly #positions: Float64Array;
  readonly #states: Uint8Array;
  /** Where each object's references begin, and how many they are. */
  readonly #starts: Float64Array;
  readonly #counts: Uint32Array;
  #targets = new Uint32Array(1024);
  #used = 0;
  readonly #head = new Uint8Array(RECORD.size);
  readonly #view = viewOf(this.#head);

  /** @param index where each object's current record is; must not change any more */
  constructor(source: ByteSource, index: ObjectIndex) {
    this.#source = source;
    this.#index = index;
    this.#positions = new Float64Array(index.count);
    this.#states = new Uint8Array(index.count);
    this.#starts = new Float64Array(index.count);
    this.#counts = new Uint32Array(index.count);
    let number = 0;
    index.forEach((oidHigh, oidLow, position) => {
      this.#positions[number] = position;
      this.#numbers.set(oidHigh, oidLow, ++number);
    });
  }

  /** Adds what a scanner has found. @returns references to what does not exist */
  *add(objects: readonly number[]): Generator<Finding> {
    for (let at = 0; at < objects.length;) {
      const [oidHigh, oidLow, position, state, count] = [
        objects[at]!,
        objects[at + 1]!,
        objects[at + 2]!,
        objects[at + 3]!,
        objects[at + 4]!,
      ];
      const first = at + 5;
      at = first + 2 * count;
      if (this.#index.get(oidHigh, oidLow) !== position) continue; // an earlier revision
      const number = this.#numbers.get(oidHigh, oidLow) - 1;
      this.#states[number] = state;
      this.#starts[number] = this.#used;
      for (let each = first; each < at; each += 2) {
        const target = this.#numbers.get(objects[each]!, objects[each + 1]!);
        if (target !== 0) this.#addTarget(target - 1);
        else yield this.#reference(position, oidOf(objects[each]!, objects[each + 1]!), "missing");
      }
      this.#counts[number] = this.#used - this.#starts[number]!;
    }
  }

  /** What the whole shows: references to objects that cannot be loaded, and what cannot be reached. */
  *findings(): Generator<Finding> {
    yield* this.#badReferences();
    const root = this.#numbers.get(0, 0);
    if (root === 0 || this.#states[root - 1] !== OBJECT_STATE.loaded) return;
    const isReached = this.#reach(root - 1);
    this.unreachable = 0;
    for (let number = 0; number < this.#states.length; number++) {
      if (this.#states[number] !== OBJECT_STATE.loaded || isReached[number] === 1) continue;
      this.unreachable++;
      yield { kind: "unreachable", ...this.#placeOf(this.#positions[number]!) };
    }
  }

  *#badReferences(): Generator<Finding> {
    const states = this.#states;
    for (let number = 0; number < states.length; number++) {
      const start = this.#starts[number]!;
      for (let at = start; at < start + this.#counts[number]!; at++) {
        const target = this.#targets[at]!;
        const state = states[target]!;
        if (state === OBJECT_STATE.loaded) continue;
        const oid = this.#placeOf(this.#positions[target]!).oid;
        const why = state === OBJECT_STATE.undone ? "undone" : "unreadable";
        yield this.#reference(this.#positions[number]!, oid, why);
      }
    }
  }

  #reach(root: number): Uint8Array {
    const isReached = new Uint8Array(this.#states.length);
    const waiting = [root];
    isReached[root] = 1;
    for (let number = waiting.pop(); number !== undefined; number = waiting.pop()) {
      const start = this.#starts[number]!;
      for (let at = start; at < start + this.#counts[number]!; at++) {
        const target = this.#targets[at]!;
        if (isReached[target] === 1) continue;
        isReached[target] = 1;
        waiting.push(target);
      }
    }
    return isReached;
  }

  #reference(position: number, target: bigint, why: "missing" | "undone" | "unreadable"): Finding {
    return { kind: "reference", ...this.#placeOf(position), target, why };
  }

  #placeOf(position: number): { position: number; tid: bigint; oid: bigint } {
    this.#source.readAt(this.#head, position);
    return { position, tid: this.#view.getBigUint64(RECORD.tid), oid: this.#view.getBigUint64(RECORD.oid) };
  }

  #addTarget(number: number): void {
    if (this.#used === this.#targets.length) {
      const more = new Uint32Array(Math.ceil(this.#used * 1.5));
      more.set(this.#targets);
      this.#targets = more;
    }
    this.#targets[this.#used++] = number;
  }
}

function oidOf(high: number, low: number): bigint {
  return (BigInt(high) << 32n) | BigInt(low);
}
