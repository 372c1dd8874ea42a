/** What the other end says is checked, and no answer keeps a comparison from ending. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { ProtocolError, ZrsError } from "../../lib/errors.ts";
import {
  answerQuestion,
  compareLineage,
  type Mark,
  type Question,
} from "../../lib/replica/lineage/lineage.ts";
import { formatTid, parseTid } from "../../lib/zodb/mod.ts";
import { compare, type End, endOf, noPause } from "./lineage_kit.ts";

const DIGEST = "0123456789abcdef".repeat(2);

function tid(number: number): string {
  return formatTid(BigInt(number));
}

function history(database: string, count: number, step = 10): End {
  return endOf(Array.from({ length: count }, (_, at) => ({
    tid: BigInt(step * (at + 1)),
    records: [{ oid: 0n, data: `${database} ${at}` }],
  })));
}

function mark(number: number, fields: object = {}): Mark {
  return { tid: tid(number), body: DIGEST, packed: false, records: [], ...fields };
}

const record = { oid: tid(1), digest: DIGEST };

Deno.test("a question that is none, or asks for too much, is refused", async () => {
  const { view } = history("ours", 3);
  const marks = { kind: "marks", after: null, before: null, count: 64 };
  const many = (count: number) => Array.from({ length: count }, (_, at) => mark(at + 1));
  const records = (count: number) => Array.from({ length: count }, () => record);
  const holds = (...transactions: unknown[]) => ({ kind: "holds", transactions });
  const refused: unknown[] = [
    undefined,
    null,
    "marks",
    [],
    {},
    { kind: "all" },
    { ...marks, count: 65 },
    { ...marks, count: 0 },
    { ...marks, count: 1.5 },
    { ...marks, count: "1" },
    { ...marks, count: NaN },
    { ...marks, after: "10" },
    { ...marks, before: 10 },
    { ...marks, before: "000000000000000G" },
    { ...marks, after: undefined },
    { kind: "holds" },
    { kind: "holds", transactions: { length: 1 } },
    holds(null),
    holds(...many(65)),
    holds(mark(2), mark(1)),
    holds(mark(1), mark(1)),
    holds(mark(1, { tid: "0x00000000000001" })),
    holds(mark(1, { body: DIGEST.slice(1) })),
    holds(mark(1, { body: DIGEST.toUpperCase() })),
    holds(mark(1, { packed: "no" })),
    holds(mark(1, { records: null })),
    holds(mark(1, { records: [null] })),
    holds(mark(1, { records: [{ oid: "1", digest: DIGEST }] })),
    holds(mark(1, { records: [{ oid: tid(1), digest: "" }] })),
    holds(mark(1, { records: records(65) })),
    holds(...many(5).map((each) => ({ ...each, records: records(60) }))),
  ];
  for (const question of refused) {
    await assert.rejects(answerQuestion(view, question, noPause), ProtocolError, JSON.stringify(question));
  }
  const accepted: unknown[] = [marks, { ...marks, after: tid(30), before: tid(10) }, holds(), holds(mark(1))];
  for (const question of accepted) await answerQuestion(view, question, noPause);
});

Deno.test("marks are spread over the range, its first and last among them", async () => {
  const { view } = history("ours", 500);
  const ask = async (after: number | null, before: number | null, count: number) => {
    const answer = await answerQuestion(view, {
      kind: "marks",
      after: after === null ? null : tid(after),
      before: before === null ? null : tid(before),
      count,
    }, noPause);
    assert(answer.kind === "marks");
    return { tids: answer.marks.map(({ tid }) => Number(parseTid(tid))), whole: answer.whole };
  };
  assert.deepEqual(await ask(null, null, 1), { tids: [10], whole: false });
  assert.deepEqual(await ask(null, null, 2), { tids: [10, 5000], whole: false });
  assert.deepEqual(await ask(20, 50, 2), { tids: [30, 40], whole: true });
  assert.deepEqual(await ask(21, 45, 64), { tids: [30, 40], whole: true });
  assert.deepEqual(await ask(20, 30, 64), { tids: [], whole: true });
  assert.deepEqual(await ask(40, 20, 64), { tids: [], whole: true });
  assert.deepEqual(await ask(5000, null, 64), { tids: [], whole: true });
  assert.deepEqual(await ask(null, 11, 64), { tids: [10], whole: true });
  const { tids, whole } = await ask(null, null, 64);
  assert.equal(whole, false);
  assert.deepEqual([tids.length, tids[0], tids.at(-1)], [64, 10, 5000]);
  for (let at = 1; at < tids.length; at++) {
    const gap = tids[at]! - tids[at - 1]!;
    assert.ok(gap > 0 && gap < 2 * 5000 / 63, `${gap} between two neighbours`);
  }
});

Deno.test("marks keep apart and in order around a transaction that is larger than all others together", async () => {
  const transactions = Array.from({ length: 200 }, (_, at) => ({
    tid: BigInt(at + 1),
    records: [{ oid: 0n, data: "x".repeat(at === 100 ? 9_000_000 : 100) }],
  }));
  const { view } = endOf(transactions);
  for (let time = 0; time < 2; time++) { // the second time the file is known in part
    const answer = await answerQuestion(
      view,
      { kind: "marks", after: null, before: null, count: 64 },
      noPause,
    );
    assert(answer.kind === "marks");
    const tids = answer.marks.map(({ tid }) => Number(parseTid(tid)));
    assert.deepEqual(tids, [...new Set(tids)].sort((a, b) => a - b));
    assert.deepEqual([tids[0], tids.at(-1)], [1, 200]);
    assert.ok(tids.includes(102), "the one behind it");
  }
});

Deno.test("the records named of a large transaction are spread over it", async () => {
  const records = Array.from({ length: 1000 }, (_, at) => ({ oid: BigInt(at), data: `${at}` }));
  const { view } = endOf([{ tid: 10n, records }]);
  const answer = await answerQuestion(view, { kind: "marks", after: null, before: null, count: 1 }, noPause);
  assert(answer.kind === "marks");
  const oids = answer.marks[0]!.records.map(({ oid }) => Number(parseTid(oid)));
  assert.equal(oids.length, 64);
  assert.ok(oids.every((oid, at) => at === 0 ? oid === 0 : oid - oids[at - 1]! < 20) && oids.at(-1)! > 980);
});

/** Compares with a replica whose answers to one kind of question are what `answer` makes of the honest one. */
async function compareWith(
  kind: Question["kind"],
  // deno-lint-ignore no-explicit-any
  answer: (honest: any) => unknown,
): Promise<unknown> {
  const source = history("ours", 200);
  const replica = history("theirs", 200);
  return await compareLineage(
    source.view,
    { lastTid: replica.view.lastTid, digest: DIGEST },
    async (question) => {
      const honest = await answerQuestion(replica.view, question, noPause);
      return question.kind === kind ? answer(honest) : honest;
    },
    noPause,
  );
}

Deno.test("an answer that is none, or not to the question, is refused", async () => {
  // deno-lint-ignore no-explicit-any
  const holds: ((honest: any) => unknown)[] = [
    () => undefined,
    () => null,
    () => "holds",
    () => ({}),
    ({ held }) => ({ kind: "marks", held }),
    () => ({ kind: "holds" }),
    ({ held }) => ({ kind: "holds", held: held.slice(1) }),
    ({ held }) => ({ kind: "holds", held: [...held, "same"] }),
    ({ held }) => ({ kind: "holds", held: { length: held.length } }),
    ({ held }) => ({ kind: "holds", held: held.map(() => true) }),
    ({ held }) => ({ kind: "holds", held: held.map(() => "constructor") }),
  ];
  for (const answer of holds) {
    await assert.rejects(compareWith("holds", answer), ProtocolError, String(answer));
  }
  // deno-lint-ignore no-explicit-any
  const marks: ((honest: any) => unknown)[] = [
    () => ({ kind: "holds", held: [] }),
    () => ({ kind: "marks", whole: true }),
    () => ({ kind: "marks", marks: [], whole: true }), // it said that it has later transactions
    () => ({ kind: "marks", marks: [mark(2001)], whole: true }), // later than its last
    ({ marks }) => ({ kind: "marks", marks, whole: "yes" }),
    () => ({ kind: "marks", marks: [mark(1), mark(2)], whole: true }), // more than asked for
    ({ marks }) => ({ kind: "marks", marks: [{ ...marks[0], tid: "10" }], whole: true }),
    ({ marks }) => ({ kind: "marks", marks: [{ ...marks[0], body: "?" }], whole: true }),
  ];
  for (const answer of marks) {
    await assert.rejects(compareWith("marks", answer), ProtocolError, String(answer));
  }
  assert.deepEqual(await compareWith("marks", (honest) => honest), {
    kind: "forked",
    common: undefined,
    here: 10n,
    there: 10n,
    exact: true,
  });
});

Deno.test("marks out of range or order are refused", async () => {
  const source = history("ours", 200);
  const wrong: ((question: Extract<Question, { kind: "marks" }>) => number[])[] = [
    ({ after }) => [after === null ? 0 : Number(parseTid(after))],
    ({ before }) => [before === null ? 3000 : Number(parseTid(before))],
    () => [1500, 1400],
    () => [1500, 1500],
  ];
  for (const each of wrong) {
    const comparison = compareLineage(
      source.view,
      { lastTid: 2005n, digest: DIGEST },
      (question) =>
        Promise.resolve(
          question.kind === "holds"
            ? { kind: "holds", held: question.transactions.map(() => "unknown") }
            : { kind: "marks", marks: each(question).map((number) => mark(number)), whole: true },
        ),
      noPause,
    );
    await assert.rejects(comparison, ProtocolError, String(each));
  }
});

Deno.test("a replica that invents one transaction after the other is dropped", async () => {
  const source = history("ours", 200, 2 ** 40);
  let questions = 0;
  const comparison = compareLineage(
    source.view,
    { lastTid: 200n * 2n ** 40n, digest: DIGEST },
    (question) => {
      questions++;
      if (question.kind === "holds") {
        return Promise.resolve({ kind: "holds", held: question.transactions.map(() => "unknown") });
      }
      const before = question.before === null ? source.view.lastTid : parseTid(question.before);
      const invented = { ...mark(1), tid: formatTid(before - 1n), records: [record] };
      return Promise.resolve({ kind: "marks", marks: [invented], whole: false });
    },
    noPause,
  );
  await assert.rejects(comparison, /Cannot compare the histories: no end after 64 answers/);
  assert.equal(questions, 64);
});

Deno.test("whatever a replica answers, there is an end: a verdict or an error of ours", async () => {
  const source = history("ours", 1000);
  const ends = new Set<string>();
  await fc.assert(
    fc.asyncProperty(fc.infiniteStream(fc.nat(99)), fc.nat(4), async (dice, weight) => {
      const roll = () => dice.next().value as number;
      const holding = () =>
        ["same", "other", "unknown", "unknown", "unknown", "other"][roll() % (2 + weight)];
      try {
        const lineage = await compareLineage(
          source.view,
          { lastTid: BigInt(9000 + roll() * 15), digest: DIGEST },
          (question) => {
            if (question.kind === "holds") {
              return Promise.resolve({ kind: "holds", held: question.transactions.map(holding) });
            }
            const after = question.after === null ? 0 : Number(parseTid(question.after));
            const marks = Array.from(
              { length: Math.min(question.count, 1 + roll() % 9) },
              (_, at) =>
                mark(after + 1 + at * (1 + roll() % 3), { packed: roll() % 2 === 0, records: [record] }),
            );
            return Promise.resolve({ kind: "marks", marks, whole: roll() % 2 === 0 });
          },
          noPause,
        );
        ends.add(lineage.kind);
      } catch (error) {
        if (!(error instanceof ZrsError)) throw error;
        ends.add(error.name);
      }
    }),
    { numRuns: 500 },
  );
  assert.deepEqual([...ends].sort(), ["ProtocolError", "ahead", "beyond the pack", "forked", "shared"]);
});

Deno.test("a replica that says nothing of its last transaction's content is refused", async () => {
  const { view } = history("ours", 3);
  for (const digest of [undefined, "", DIGEST.slice(1), `${DIGEST}0`]) {
    const comparison = compareLineage(view, { lastTid: 10n, digest }, () => Promise.resolve(), noPause);
    await assert.rejects(comparison, ProtocolError);
  }
  const { lineage, questions } = await compare(history("ours", 3), history("ours", 0));
  assert.deepEqual([lineage, questions], [{ kind: "shared", position: 4 }, 0]);
});
