/** A short exchange by the native stream with anything going wrong once, at every place where it can. */
import assert from "node:assert/strict";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { exchange } from "./short_exchange.ts";

const TID = 0x036c_9000_0000_0001n;

function history(numbers: readonly number[], name: string): TransactionDescription[] {
  return numbers.map((number) => ({
    tid: TID + 16n * BigInt(number),
    records: [{ oid: BigInt(number % 2), data: `${name} ${number} ${".".repeat(40 * (number % 3))}` }],
  }));
}

const COMMON = history([1, 2], "common");
const SOURCE = dataFs([...COMMON, ...history([3, 4, 5], "source")]).bytes;
/** Of the same length and by other tids, so that it lies within the source's history. */
const FORK = dataFs([...COMMON, ...history([3, 4], "a fork")]).bytes;

const SCENES = [
  { who: "an empty replica", replica: undefined, rewinds: 0, everyNth: 1 },
  // Three times as long an exchange, most of it questions and answers.
  { who: "a replica that has forked, and rewinds,", replica: FORK, rewinds: 1, everyNth: 3 },
] as const;

for (const { who, replica, rewinds, everyNth } of SCENES) {
  const scene = { before: FORK, source: SOURCE, replica };

  Deno.test(`${who} gets all although the link is cut, behind ${everyNth === 1 ? "any" : "every third"} byte`, async () => {
    const whole = await exchange({ ...scene, seed: "whole" });
    assert.equal(whole.rewinds, rewinds);
    for (let cutBehind = 0; cutBehind < whole.bytes; cutBehind += everyNth) {
      const { befell } = await exchange({ ...scene, seed: `cut ${cutBehind}`, cutBehind });
      assert(befell || cutBehind > whole.bytes / 2, `nothing was cut behind ${cutBehind}`);
    }
  });

  for (const kind of ["killed", "power lost"] as const) {
    Deno.test(`${who} gets all although it is ${kind}, at whichever change of its disk`, async () => {
      let skip = 0;
      for (let befell = true; befell; skip++) {
        for (let times = 0; times < 5; times++) {
          ({ befell } = await exchange({
            ...scene,
            seed: `${kind} ${skip} ${times}`,
            death: { skip, kind },
          }));
        }
      }
      assert(skip > 10, `only ${skip} changes`);
    });
  }
}
