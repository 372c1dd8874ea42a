/** A copy compared with a running primary: over the wire, beside its real work, and with peers that misbehave. */
import assert from "node:assert/strict";
import { ProtocolError, RefusedError, UnavailableError } from "../../lib/errors.ts";
import { type Difference, History } from "../../lib/filestorage/mod.ts";
import { ComparedSource, type Secret, SourceComparison } from "../../lib/replica/mod.ts";
import { changes } from "../filestorage/changes.ts";
import { naiveDifferences } from "../filestorage/naive_compare.ts";
import { tidAt } from "../filestorage/random_history.ts";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { hello, type NativeWire, welcome } from "../kit/native_wire.ts";
import { COPY, HERE, ORIGINAL, Scene, SOURCE } from "./scene.ts";

const HISTORY: TransactionDescription[] = Array.from({ length: 100 }, (_, at) => ({
  tid: tidAt(at),
  user: `user ${at}`,
  records: [{ oid: 1n, data: `one ${at}` }, { oid: BigInt(at + 2), data: "x".repeat(500) }],
}));
const THROUGH = tidAt(99).toString(16).padStart(16, "0");

/** Compares the copy in the scene with whoever answers. */
async function compare(scene: Scene, address = HERE, secret?: Secret): Promise<Difference[]> {
  using history = await History.open(scene.disk, COPY);
  await using source = await ComparedSource.connect(scene, address, { software: "test", secret });
  const pause = () => new Promise<void>((resolve) => void setTimeout(resolve, 0));
  const comparison = new SourceComparison(history, source.end, (question) => source.ask(question), { pause });
  return await Array.fromAsync(comparison.differences());
}

function sceneOf(here: readonly TransactionDescription[], there: readonly TransactionDescription[]): Scene {
  const scene = new Scene();
  scene.disk.put(ORIGINAL, dataFs(there).bytes);
  scene.disk.put(COPY, dataFs(here).bytes);
  return scene;
}

for (const [name, change] of Object.entries(changes)) {
  Deno.test(`a difference is found over the wire, and nothing is written: ${name}`, async () => {
    const other = change(HISTORY, 70, 1);
    const scene = sceneOf(other, HISTORY);
    await using primary = await scene.startPrimary();
    const before = scene.disk.performed.length;
    const found = await compare(scene);
    assert.deepEqual(
      found.map(({ kind, tid }) => [kind, tid]),
      naiveDifferences(dataFs(other).bytes, dataFs(HISTORY).bytes),
    );
    await primary.log.waitFor(/: disconnected/);
    const touched = new Set(scene.disk.performed.slice(before).map(({ operation }) => operation));
    for (const harmless of ["open", "read", "sync"] as const) touched.delete(harmless);
    assert.deepEqual([...touched], []);
  });
}

Deno.test("both ends must have the secret, where there is one", async () => {
  const secretOf = (text: string) => ({ bytes: new TextEncoder().encode(text) });
  const scene = sceneOf(HISTORY, HISTORY);
  await using _primary = await scene.startPrimary({ secret: secretOf("one secret of ours") });
  assert.deepEqual(await compare(scene, HERE, secretOf("one secret of ours")), []);
  await assert.rejects(compare(scene, HERE, secretOf("another one of theirs")), RefusedError);
  await assert.rejects(compare(scene), RefusedError);
});

/** A peer that has been made welcome to compare. */
async function attach(scene: Scene): Promise<NativeWire> {
  const wire = await scene.connectNative();
  await wire.sendMessage(hello({ capabilities: ["compare"], required: ["compare"] }));
  await wire.receiveMessage("welcome");
  return wire;
}

Deno.test("one copy is compared at a time, and the place is free again when its peer goes", async () => {
  const scene = sceneOf(HISTORY, HISTORY);
  await using primary = await scene.startPrimary();
  const wire = await attach(scene);
  await assert.rejects(compare(scene), /is being compared with another copy already/);
  wire.close();
  await primary.log.waitFor(/: disconnected/);
  assert.deepEqual(await compare(scene), []);
});

Deno.test("a peer that asks twice at once, or what is no question, or asks before it may, is dropped", async () => {
  const question = { kind: "digest", after: null, through: THROUGH };
  const ask = { type: "ask", question };
  for (
    const messages of [
      [ask, ask],
      [{ type: "ask", question: { kind: "everything" } }],
      [{ type: "answer", answer: {} }],
    ]
  ) {
    const scene = sceneOf(HISTORY, HISTORY);
    await using primary = await scene.startPrimary();
    const wire = await attach(scene);
    for (const message of messages) await wire.sendMessage(message);
    await primary.log.waitFor(/dropped: Cannot (take message|answer the question)/);
    await wire.receiveEnd();
  }
  const scene = sceneOf(HISTORY, HISTORY);
  await using primary = await scene.startPrimary();
  const wire = await scene.connectNative();
  await wire.sendMessage(hello());
  await wire.receiveMessage("welcome");
  await wire.sendMessage(ask);
  await primary.log.waitFor(/dropped: Cannot take message ask/);
});

Deno.test("a source that cannot be asked, goes or sends something else is left with the reason", async () => {
  const refused = {
    type: "refused",
    code: "capability",
    reason: "this source cannot do what is required: compare",
  };
  const answers: readonly (readonly [(wire: NativeWire) => Promise<void>, new () => Error, RegExp])[] = [
    [
      (wire) => Promise.resolve(wire.close()),
      UnavailableError as never,
      /does not answer in zrs's native stream/,
    ],
    [(wire) => wire.sendMessage(refused), UnavailableError as never, /cannot do what is required/],
    [(wire) => wire.sendMessage(welcome()), ProtocolError as never, /Cannot take message welcome/],
    [
      async (wire) => {
        await wire.sendMessage(welcome({ capabilities: ["compare"], lastTid: THROUGH }));
        await wire.receiveMessage("ask");
        await wire.sendMessage({ type: "bye", code: "stopping", reason: "this source stops" });
      },
      UnavailableError as never,
      /it says goodbye: this source stops/,
    ],
    [
      async (wire) => {
        await wire.sendMessage(welcome({ capabilities: ["compare"], lastTid: THROUGH }));
        await wire.receiveMessage("ask");
        wire.close();
      },
      UnavailableError as never,
      /closed the connection/,
    ],
    [
      async (wire) => {
        await wire.sendMessage(welcome({ capabilities: ["compare"], lastTid: THROUGH }));
        const digest = {
          kind: "digest",
          through: THROUGH,
          transactions: 100,
          digest: "0".repeat(32),
          packed: false,
        };
        await wire.receiveMessage("ask");
        await wire.sendMessage({ type: "answer", answer: digest });
        await wire.sendMessage({ type: "answer", answer: digest });
      },
      ProtocolError as never,
      /Cannot (take message answer|use the answer)/,
    ],
  ];
  for (const [answer, kind, words] of answers) {
    const scene = sceneOf(HISTORY, HISTORY);
    using source = await scene.listen();
    const comparing = compare(scene, SOURCE);
    comparing.catch(() => {}); // looked at below
    const wire = await source.acceptNative();
    const { required } = await wire.receiveMessage("hello");
    assert.deepEqual(required, ["compare"]);
    await answer(wire);
    await assert.rejects(comparing, (error) => {
      assert(error instanceof kind, String(error));
      assert.match(error.message, words);
      return true;
    });
  }
});
