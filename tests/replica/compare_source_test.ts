/** A copy compared with a source by questions: the same findings as with the file, and what hostile answers do. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { CorruptError, ProtocolError, UnavailableError } from "../../lib/errors.ts";
import { type Comparison, type Difference, FileComparison } from "../../lib/filestorage/mod.ts";
import { CompareAnswers } from "../../lib/replica/compare/compare_answers.ts";
import { SourceComparison } from "../../lib/replica/compare/compare_source.ts";
import { formatTid } from "../../lib/zodb/mod.ts";
import { changes, replace, withoutBackPointers } from "../filestorage/changes.ts";
import { naiveDifferences } from "../filestorage/naive_compare.ts";
import { randomHistory, tidAt } from "../filestorage/random_history.ts";
import type { TransactionDescription } from "../kit/data_fs.ts";
import { type End, endOf, noPause, packed } from "./lineage_kit.ts";

type Answer = (question: unknown, answers: CompareAnswers) => Promise<unknown>;

function logOf({ view: { generation: { file }, end, lastTid } }: End) {
  return { path: "/data/Data.fs", file, end, lastTid };
}

/** Every message travels as JSON. */
const honestly: Answer = async (question, answers) => {
  const text = JSON.stringify(await answers.answer(JSON.parse(JSON.stringify(question))));
  assert(new TextEncoder().encode(text).length < 60_000);
  return JSON.parse(text);
};

interface Compared {
  readonly found: Difference[];
  readonly result: Comparison;
  readonly questions: unknown[];
}

async function compare(
  here: End,
  there: End,
  { answer = honestly, since }: { answer?: Answer; since?: bigint | undefined } = {},
): Promise<Compared> {
  const answers = new CompareAnswers(there.view, noPause);
  const questions: unknown[] = [];
  const ask = async (question: unknown) => {
    questions.push(question);
    return await answer(question, answers);
  };
  const comparison = new SourceComparison(logOf(here), there.view, ask, { since, pause: noPause });
  const found: Difference[] = [];
  for await (const difference of comparison.differences()) found.push(difference);
  return { found, result: comparison.result, questions };
}

function kinds(found: readonly Difference[]) {
  return found.map(({ kind, tid }) => [kind, tid]);
}

/** A history of many small transactions, so that halving has something to do. */
const LONG: TransactionDescription[] = Array.from({ length: 1000 }, (_, at) => ({
  tid: tidAt(at),
  user: `user ${at}`,
  description: 'ü\u0001"'.repeat(30),
  records: [{ oid: BigInt(at % 7), data: `data ${at}` }, { oid: BigInt(at + 10), data: "x" }],
}));

Deno.test("the same history needs one question, however its file lies", async () => {
  const moved = endOf([{ tid: 1n, status: "u", records: [{ oid: 5n, data: "moves the rest" }] }, ...LONG]);
  for (const end of [endOf(LONG), moved]) {
    const { found, result, questions } = await compare(end, endOf(LONG));
    assert.deepEqual([found, result.same, result.hasNewer, questions.length], [[], 1000, false, 1]);
  }
  const { found, result } = await compare(endOf(LONG.slice(0, 700)), endOf(LONG));
  assert.deepEqual([found, result.same, result.hasNewer], [[], 700, true]);
  assert.deepEqual((await compare(endOf([]), endOf(LONG))).found, []);
});

for (const [name, change] of Object.entries(changes)) {
  Deno.test(`a planted difference is found by few questions, in both directions: ${name}`, async () => {
    let changed = 0;
    await fc.assert(
      fc.asyncProperty(fc.nat(LONG.length - 1), fc.nat(), async (at, choice) => {
        const original = endOf(LONG);
        const other = endOf(change(LONG, at, choice));
        for (const [here, there] of [[original, other], [other, original]] as const) {
          const { found, questions } = await compare(here, there);
          assert.deepEqual(kinds(found), naiveDifferences(here.built.bytes, there.built.bytes));
          assert(questions.length < 40, `${questions.length} questions`);
          changed += found.length;
        }
      }),
      { numRuns: 10 },
    );
    assert(changed > 5);
  });
}

/** In both directions: comparing the files finds the same. */
async function assertSameAsFiles(one: End, other: End): Promise<void> {
  for (const [here, there] of [[one, other], [other, one]] as const) {
    const { found, result } = await compare(here, there);
    const files = new FileComparison(logOf(here), logOf(there), { pause: noPause });
    const expected: Difference[] = [];
    for await (const difference of files.differences()) expected.push(difference);
    assert.deepEqual(kinds(found), kinds(expected));
    assert.deepEqual(result, files.result);
  }
}

Deno.test("random histories, packed at either end, give what comparing the files gives", async () => {
  await fc.assert(
    fc.asyncProperty(
      randomHistory,
      fc.nat(20),
      fc.nat(20),
      fc.nat(),
      fc.constantFrom(undefined, ...Object.values(changes)),
      async (random, first, second, choice, change) => {
        fc.pre(random.length > 0);
        const history = withoutBackPointers(random).map((each) => ({ ...each, status: " " as const }));
        const other = change === undefined ? history : change(history, choice % history.length, choice);
        const a = endOf(packed(history, first, (oid) => oid === BigInt(choice % 3)));
        const b = endOf(packed(other, second, () => false));
        await assertSameAsFiles(a, b);
      },
    ),
    { numRuns: 300 },
  );
});

Deno.test("where an object has two records in a packed transaction, and another is missing, its data are told", async () => {
  const own = endOf([{ tid: tidAt(5), records: [{ oid: 1n, undone: true }, { oid: 1n, data: "kept" }] }]);
  const other = endOf([
    { tid: tidAt(5), status: "p", records: [{ oid: 1n, undone: true }, { oid: 77n, data: "another" }] },
  ]);
  assert.deepEqual(kinds((await compare(own, other)).found), [["data", tidAt(5)]]);
  await assertSameAsFiles(own, other);
});

Deno.test("a transaction of more records than a message holds is compared to its last record", async () => {
  const large = (last: string, status: " " | "p"): TransactionDescription[] => [
    ...LONG.slice(0, 3),
    {
      tid: tidAt(5),
      status,
      records: Array.from(
        { length: 3000 },
        (_, at) => ({ oid: BigInt(at), data: at === 2999 ? last : "same" }),
      ),
    },
    { tid: tidAt(6), records: [{ oid: 0n, data: "behind" }] },
  ];
  for (const [own, others] of [[" ", " "], ["p", " "], [" ", "p"], ["p", "p"]] as const) {
    const { found } = await compare(endOf(large("one", own)), endOf(large("other", others)));
    const [difference] = found;
    assert(found.length === 1 && difference?.kind === "data");
    assert.deepEqual([difference.oid, difference.recordHere.length, difference.recordThere.length], [
      2999n,
      3,
      5,
    ]);
    const position = endOf(large("one", own)).built.transactions[3]!.position;
    assert.deepEqual([difference.here, difference.there], [position, position]);
    const packedDown = large("one", "p").map((each) => ({ ...each, records: each.records.slice(0, 2990) }));
    assert.deepEqual((await compare(endOf(large("one", own)), endOf(packedDown))).found, []);
  }
});

Deno.test("only what is not earlier than a tid is compared, where that is wanted", async () => {
  const there = endOf(replace(LONG, 200, { user: "other" }));
  assert.equal((await compare(endOf(LONG), there, { since: tidAt(200) })).found.length, 1);
  const { found, result } = await compare(endOf(LONG), there, { since: tidAt(201) });
  assert.deepEqual([found, result.same], [[], 799]);
});

Deno.test("a source whose digests are not those of what it shows breaks the protocol", async () => {
  const lies: Record<string, (answer: Record<string, unknown>) => unknown> = {
    "another digest of the stretch": (answer) =>
      answer.kind === "digest" ? { ...answer, digest: "0".repeat(32) } : answer,
    "another digest of a transaction": (answer) =>
      answer.kind === "digest" ? { ...answer, digest: "0".repeat(32) } : {
        ...answer,
        transactions: (answer.transactions as object[]).map((e) => ({ ...e, digest: "1".repeat(32) })),
      },
    "nothing, and more to come": (answer) =>
      answer.kind === "digest"
        ? { ...answer, digest: "0".repeat(32) }
        : { ...answer, transactions: [], whole: false },
    "a stretch that does not begin": (answer) => ({ ...answer, through: "0".repeat(16) }),
    "a stretch that goes on": (answer) => ({ ...answer, through: "f".repeat(16) }),
    "no answer": () => null,
    "another kind": (answer) => ({ ...answer, kind: "marks" }),
    "no count": (answer) => ({ ...answer, transactions: -1 }),
    "falling tids": (answer) =>
      answer.kind === "digest"
        ? { ...answer, transactions: 1 }
        : { ...answer, transactions: (answer.transactions as object[]).toReversed() },
  };
  for (const [name, lie] of Object.entries(lies)) {
    const answer: Answer = async (question, answers) =>
      lie(await honestly(question, answers) as Record<string, unknown>);
    const since = name === "a stretch that does not begin" ? tidAt(3) : undefined;
    await assert.rejects(compare(endOf(LONG), endOf(LONG), { answer, since }), ProtocolError, name);
  }
});

Deno.test("a source that never ends is left", async () => {
  let tid = 0n;
  const answer: Answer = (question) => {
    const { through } = question as { through: string };
    const next = formatTid(++tid);
    return Promise.resolve({
      kind: "digest",
      through: next < through ? next : through,
      transactions: 0,
      digest: "0".repeat(32),
      packed: false,
    });
  };
  const content: Answer = (question, answers) =>
    (question as { kind: string }).kind === "digest"
      ? answer(question, answers)
      : honestly(question, answers);
  await assert.rejects(compare(endOf(LONG), endOf(LONG), { answer: content }), ProtocolError);
});

Deno.test("questions that are none, and too many, are not answered", async () => {
  const answers = new CompareAnswers(endOf(LONG.slice(0, 5)).view, noPause);
  const through = formatTid(tidAt(900));
  for (
    const question of [
      null,
      7,
      { kind: "marks", after: null, through },
      { kind: "digest", after: null },
      { kind: "digest", after: "x", through },
      { kind: "content", after: null, through, records: 1, skip: 0 },
      { kind: "content", after: null, through, records: true, skip: -1 },
    ]
  ) await assert.rejects(answers.answer(question), ProtocolError, JSON.stringify(question));
  const question = { kind: "digest", after: null, through };
  let answered = 0;
  await assert.rejects(async () => {
    for (; answered < 100_000; answered++) await answers.answer(question);
  }, UnavailableError);
  assert(answered > 1000 && answered < 20_000, `${answered} were answered`);
});

Deno.test("a damaged copy ends the comparison", async () => {
  const damagedRecord = replace(LONG, 500, {
    records: [{ oid: 3n, data: "x", damage: { transaction: 5n } }],
  });
  await assert.rejects(compare(endOf(damagedRecord), endOf(LONG)), CorruptError);
});
