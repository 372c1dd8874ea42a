/** What the source of a packing replica writes: a graph of objects that changes. */
import {
  type BuiltFile,
  dataFs,
  type RecordDescription,
  type TransactionDescription,
} from "../kit/data_fs.ts";
import { data } from "../filestorage/pack_kit.ts";
import { tidAt } from "../filestorage/random_history.ts";
import type { SeededRandom } from "./random.ts";

/** How many transactions. */
export const LENGTH = 60;

/**
 * Objects are made, linked, unlinked and undone, as by an application: it finds only what can be reached, so garbage
 * stays garbage. (What the source brings back after a replica has dropped it, the replica lacks.)
 * @param fork from which transaction on chance gives another history, with tids of its own
 */
export function linkedHistory(
  random: SeededRandom,
  fork?: { readonly at: number; readonly random: SeededRandom },
): BuiltFile {
  const refs = new Map<number, readonly number[]>([[0, []]]);
  const revisions = new Map<number, { readonly at: [number, number]; readonly refs: readonly number[] }[]>();
  const transactions: TransactionDescription[] = [];
  let made = 0;
  for (let t = 0; t < LENGTH; t++) {
    const isFork = fork !== undefined && t >= fork.at;
    if (isFork) random = fork.random;
    const reachable = reachableFrom(refs);
    const records: RecordDescription[] = [];
    const write = (oid: number, to: readonly number[], record: RecordDescription) => {
      refs.set(oid, to);
      revisions.set(oid, [...revisions.get(oid) ?? [], { at: [t, records.length], refs: to }]);
      records.push(record);
    };
    const some = () => reachable.filter(() => random.chance(0.3));
    const oid = random.chance(0.4) ? 0 : random.pick(reachable);
    const older = revisions.get(oid)?.at(-2);
    if (older !== undefined && random.chance(0.3) && older.refs.every((ref) => reachable.includes(ref))) {
      write(oid, older.refs, { oid: BigInt(oid), backPointer: older.at });
    } else {
      const to = some();
      if (random.chance(0.7)) {
        const below = some();
        write(++made, below, { oid: BigInt(made), data: data(below, `${t} ${"x".repeat(random.int(300))}`) });
        to.push(made);
      }
      write(oid, to, { oid: BigInt(oid), data: data(to, `${t}`) });
    }
    transactions.push({ tid: tidAt(t) + (isFork ? 1n : 0n), records });
  }
  return dataFs(transactions);
}

function reachableFrom(refs: ReadonlyMap<number, readonly number[]>): number[] {
  const found = new Set([0]);
  for (const oid of found) for (const ref of refs.get(oid)!) found.add(ref);
  return [...found];
}
