/** Files with random damage of the kinds that disks, crashes and people do. */
import fc from "fast-check";
import { dataFs } from "../kit/data_fs.ts";
import { randomHistory } from "./random_history.ts";

type Damage =
  | { readonly kind: "flip"; readonly at: number; readonly mask: number }
  | { readonly kind: "zeros"; readonly at: number; readonly length: number }
  | { readonly kind: "cut"; readonly at: number }
  | { readonly kind: "lost"; readonly at: number; readonly length: number }
  | { readonly kind: "again"; readonly at: number; readonly length: number }
  | { readonly kind: "number"; readonly at: number; readonly value: number };

const at = fc.nat();
const length = fc.integer({ min: 1, max: 200 });

const damage: fc.Arbitrary<Damage> = fc.oneof(
  fc.record({ kind: fc.constant("flip"), at, mask: fc.integer({ min: 1, max: 255 }) }),
  fc.record({ kind: fc.constant("zeros"), at, length }),
  fc.record({ kind: fc.constant("cut"), at }),
  fc.record({ kind: fc.constant("lost"), at, length }),
  fc.record({ kind: fc.constant("again"), at, length }),
  // Small numbers where a length or position may stand.
  fc.record({ kind: fc.constant("number"), at, value: fc.nat(300) }),
);

function damaged(bytes: Uint8Array, each: Damage): Uint8Array {
  if (bytes.length <= 4) return bytes;
  const at = 4 + each.at % (bytes.length - 4); // the magic is another matter
  const copy = bytes.slice();
  switch (each.kind) {
    case "flip":
      copy[at]! ^= each.mask;
      return copy;
    case "zeros":
      return copy.fill(0, at, at + each.length);
    case "cut":
      return copy.slice(0, at);
    case "lost":
      return new Uint8Array([...bytes.subarray(0, at), ...bytes.subarray(at + each.length)]);
    case "again":
      return new Uint8Array([...bytes.subarray(0, at + each.length), ...bytes.subarray(at)]);
    case "number":
      if (at + 8 <= copy.length) new DataView(copy.buffer).setBigUint64(at, BigInt(each.value));
      return copy;
  }
}

/** A file, damaged once or several times. */
export const damagedFile: fc.Arbitrary<Uint8Array> = fc
  .tuple(randomHistory, fc.array(damage, { minLength: 1, maxLength: 3 }))
  .map(([history, damages]) => damages.reduce(damaged, dataFs(history).bytes));
