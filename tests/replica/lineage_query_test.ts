/** Asking a source what it has in common with a file: what is learnt, and that the source is then left in peace. */
import assert from "node:assert/strict";
import { ProtocolError, RefusedError, UnavailableError } from "../../lib/errors.ts";
import { Generation, type LogView } from "../../lib/filestorage/mod.ts";
import { encodeControl } from "../../lib/native/mod.ts";
import { networkSource, queryLineage, type Secret, type Verdict } from "../../lib/replica/mod.ts";
import { formatTid, NO_TID } from "../../lib/zodb/mod.ts";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { othersHaveRun } from "../kit/manual_clock.ts";
import { startSecondary } from "../kit/node.ts";
import type { Wire } from "../kit/zrs_wire.ts";
import { COPY, HERE, ORIGINAL, Scene, type ScriptedPrimary, SOURCE } from "./scene.ts";

const TID = 0x036c_9000_0000_0001n;

function history(count: number, { from = 0, name = "shared", status = " " as " " | "p" } = {}) {
  return Array.from({ length: count - from }, (_, at): TransactionDescription => ({
    tid: TID + BigInt(from + at),
    status,
    records: [{ oid: BigInt((from + at) % 5), data: `${name} ${from + at}` }],
  }));
}

/** The view of a file in the scene that holds these. */
function viewOf(scene: Scene, transactions: readonly TransactionDescription[]): LogView {
  const { bytes, end } = dataFs(transactions);
  scene.disk.put(COPY, bytes);
  const generation = new Generation(0, scene.disk.openRead(COPY));
  return { generation, end, lastTid: transactions.at(-1)?.tid ?? NO_TID };
}

async function ask(scene: Scene, view: LogView, source = HERE): Promise<Verdict> {
  return await queryLineage(scene, networkSource(scene, source), view, { software: "test" });
}

/** What a primary of these says of a file of those; nothing has been written, and the source has seen us go. */
async function judge(
  original: readonly TransactionDescription[],
  own: readonly TransactionDescription[],
): Promise<Verdict> {
  const scene = new Scene();
  scene.disk.put(ORIGINAL, dataFs(original).bytes);
  await using primary = await scene.startPrimary();
  const view = viewOf(scene, own);
  const before = scene.disk.performed.length;
  const verdict = await ask(scene, view);
  await primary.log.waitFor(/: disconnected|ahead:|forked:/);
  const touched = scene.disk.performed.slice(before).filter(({ path }) => path.startsWith("/copy"));
  assert(touched.every(({ operation }) => operation === "read"), JSON.stringify(touched));
  return verdict;
}

Deno.test("a source says whether it would go on, and else what is common", async () => {
  const forked = [...history(6), ...history(9, { from: 6, name: "fork" })];
  const packed = [...history(5), ...history(6, { from: 5, status: "p" }), ...history(10, { from: 6 })];
  const table: readonly (readonly [TransactionDescription[], TransactionDescription[], unknown])[] = [
    [history(10), history(10), "welcome"],
    [history(10), history(3), "welcome"],
    [history(10), [], "welcome"],
    [history(10), history(12), { code: "ahead", common: TID + 9n, isExact: true }],
    [history(10), forked, { code: "forked", common: TID + 5n, isExact: true }],
    [packed, forked, { code: "forked", common: TID + 5n, isExact: false }],
    [history(10, { name: "other" }), history(10), { code: "forked", common: undefined, isExact: true }],
    [[], history(3), { code: "ahead", common: undefined, isExact: true }],
  ];
  for (const [original, own, expected] of table) {
    const verdict = await judge(original, own);
    if (verdict.kind === "welcome") {
      assert.deepEqual([verdict.kind, verdict.notice], [expected, undefined]);
      continue;
    }
    const { code, common, isExact } = verdict.refusal;
    assert.deepEqual({ code, common, isExact }, expected);
  }
});

Deno.test("what a pack leaves open is passed on as a notice", async () => {
  const packed = [...history(5, { status: "p" }).slice(3), ...history(10, { from: 5 })];
  const verdict = await judge(packed, history(2));
  assert(verdict.kind === "welcome");
  assert.match(verdict.notice ?? "", /^beyond the pack: /);
});

Deno.test("a replica that lags does not keep us waiting for ever, but says how far it is", async () => {
  const scene = new Scene();
  scene.disk.put("/copy/behind.fs", dataFs(history(4)).bytes);
  const options = { path: "/copy/behind.fs", replicateFrom: SOURCE, replicateTo: HERE };
  await using secondary = await startSecondary(options, scene);
  const asking = ask(scene, viewOf(scene, history(6)));
  asking.catch(() => {}); // looked at below
  await secondary.log.waitFor(/ahead of this replica: has .*waits/);
  for (let beats = 0; beats < 40; beats++) {
    scene.clock.advance(1_000);
    await othersHaveRun();
  }
  const ending = new RegExp(
    `here:5000: it is most likely a replica that lags behind this file, ending with ${formatTid(TID + 3n)}`,
  );
  await assert.rejects(asking, (error) => {
    assert(error instanceof UnavailableError);
    assert.match(error.message, ending);
    return true;
  });
});

Deno.test("nobody there is unavailable", async () => {
  const scene = new Scene();
  const view = viewOf(scene, history(3));
  await assert.rejects(ask(scene, view), UnavailableError);
});

/** What becomes of asking a scripted source that has heard the hello. */
async function asked(
  answer: (wire: Wire, scene: Scene) => Promise<void>,
): Promise<{ failure: unknown; wire: Wire; source: ScriptedPrimary }> {
  const scene = new Scene();
  const source = await scene.listen();
  const asking = ask(scene, viewOf(scene, history(6)), SOURCE);
  asking.catch(() => {}); // looked at below
  const wire = await source.accept();
  assert.equal(JSON.parse(new TextDecoder().decode((await wire.receive())!)).type, "hello");
  await answer(wire, scene);
  const failure = await asking.then(() => undefined, (error) => error);
  return { failure, wire, source };
}

Deno.test("a source that does not speak the native stream is unavailable, with words that say so", async () => {
  const answers: readonly ((wire: Wire, scene: Scene) => Promise<void>)[] = [
    (wire) => Promise.resolve(wire.close()), // as zc.zrs does
    (wire) => wire.send("\0\0\0\x05HTTP/"),
    async (_wire, { clock }) => {
      await clock.waitForTimer(60_000);
      clock.advance(60_000);
    },
  ];
  for (const answer of answers) {
    const { failure } = await asked(answer);
    assert(failure instanceof UnavailableError, String(failure));
    assert.match(
      failure.message,
      /^Cannot compare with source:5000: it does not answer in zrs's native stream/,
    );
    assert.match(failure.hint ?? "", /zrs log shows the transactions of both files/);
  }
});

Deno.test("other refusals and goodbyes are unavailable, what makes no sense is a broken protocol", async () => {
  const refused = { type: "refused", reason: "no", commonTid: undefined } as const;
  const table = [
    [{ ...refused, code: "busy" }, RefusedError],
    [{ type: "bye", code: "stopping", reason: "this source stops" }, UnavailableError],
    [{ ...refused, code: "ahead", commonTid: TID + 5n }, ProtocolError],
    [{ ...refused, code: "forked", commonTid: TID + 50n }, ProtocolError],
    [{ type: "complete", lastTid: TID, end: 4 }, ProtocolError],
    [{ type: "ask", question: { kind: "everything" } }, ProtocolError],
  ] as const;
  for (const [message, kind] of table) {
    const { failure } = await asked((wire) => wire.send(encodeControl(message)));
    assert(failure instanceof kind, `${JSON.stringify(message, (_, value) => String(value))}: ${failure}`);
  }
});

Deno.test("where there is a secret both must have it before anything of the history is said", async () => {
  const secretOf = (text: string) => ({ bytes: new TextEncoder().encode(text) });
  const scene = new Scene();
  scene.disk.put(ORIGINAL, dataFs(history(4)).bytes);
  await using _primary = await scene.startPrimary({ secret: secretOf("one secret of ours") });
  const view = viewOf(scene, history(6));
  const asking = (secret: Secret | undefined) =>
    queryLineage(scene, networkSource(scene, HERE), view, { software: "test", secret });
  const verdict = await asking(secretOf("one secret of ours"));
  assert(verdict.kind === "differs");
  assert.equal(verdict.refusal.common, TID + 3n);
  await assert.rejects(asking(secretOf("another one of theirs")), RefusedError);
  await assert.rejects(asking(undefined), RefusedError);
});

Deno.test("behind the welcome comes a goodbye, whatever the source has begun to send", async () => {
  const scene = new Scene();
  using source = await scene.listen();
  const asking = ask(scene, viewOf(scene, history(6)), SOURCE);
  const wire = await source.accept();
  await wire.receive();
  const welcome = encodeControl({
    type: "welcome",
    version: 1,
    software: "test",
    capabilities: [],
    lastTid: TID + 9n,
    end: 1000,
    beatMs: 1000,
    notice: undefined,
  });
  await wire.send(
    welcome,
    encodeControl({ type: "complete", lastTid: TID + 9n, end: 1000 }),
    "\0\0\0\x03D..",
  );
  assert.equal((await asking).kind, "welcome");
  const { type, code } = JSON.parse(new TextDecoder().decode((await wire.receive())!));
  assert.deepEqual([type, code], ["bye", "stopping"]);
  assert.equal(await wire.receive(), null);
});
