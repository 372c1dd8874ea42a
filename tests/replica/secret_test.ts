/** Nodes with a shared secret: who has it is served, all others learn nothing and change nothing. */
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { frame } from "../../lib/bytes/mod.ts";
import type { Address, Connection, Network } from "../../lib/ports/mod.ts";
import type { Secondary, Secret } from "../../lib/replica/mod.ts";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { latin1 } from "../kit/hex.ts";
import type { MemoryConnection } from "../kit/memory_network.ts";
import { othersHaveRun } from "../kit/manual_clock.ts";
import { type RunningNode, startSecondary } from "../kit/node.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { eight, framed, join, type Wire } from "../kit/zrs_wire.ts";
import { COPY, HERE, ORIGINAL, Scene, SOURCE } from "./scene.ts";

const TID = 0x036c_9000_0000_0001n;
const HISTORY: TransactionDescription[] = [
  { tid: TID, records: [{ oid: 0n, data: "one" }] },
  { tid: TID + 1n, records: [{ oid: 0n, data: "two" }] },
];
const FILE = dataFs(HISTORY).bytes;
/** What the copy has at first. */
const BEGUN = dataFs(HISTORY.slice(0, 1)).bytes;

const SECRET = secretOf("the secret of all our nodes");
const OTHER = secretOf("the secret of other people");

function secretOf(text: string): Secret {
  return { bytes: latin1(text) };
}

function sceneWithFiles(): Scene {
  const scene = new Scene();
  scene.disk.put(ORIGINAL, FILE);
  scene.disk.put(COPY, BEGUN);
  return scene;
}

type Said = Readonly<Record<string, unknown>>;

function control(message: Said): Uint8Array {
  return framed(JSON.stringify(message));
}

async function hear(wire: Wire): Promise<Said> {
  const body = await wire.receive();
  assert.notEqual(body, null, "The connection ended");
  return JSON.parse(new TextDecoder().decode(body!));
}

/** A hello that a source without a secret would serve. */
const HELLO = control({
  type: "hello",
  version: 1,
  software: "test",
  lastTid: "0".repeat(16),
  end: 4,
  runBytes: 1_000_000,
  beatMs: 1_000,
  capabilities: ["raw"],
  required: [],
});
const NONCE = "5a".repeat(32);
const PROOF = "a5".repeat(32);
const INTRODUCTION = control({ type: "introduction", nonce: NONCE, mustUnderstand: true });

/** The longest wait between two attempts to connect. */
const RETRY_MS = 10_000;

/** Lets the secondary, whose connection has ended, connect once more. */
async function tryAgain(scene: Scene, secondary: RunningNode<Secondary>): Promise<void> {
  const attempts = scene.network.attempts.items.length;
  const ended = secondary.log.matching(/connecting again/).length;
  if (ended < attempts) {
    await secondary.log.lines.waitFor(
      "the end",
      ({ message }) =>
        /connecting again/.test(message) && secondary.log.matching(/connecting again/).length >= attempts,
    );
  }
  await othersHaveRun();
  scene.clock.advance(RETRY_MS);
  await scene.network.attempts.waitFor("another attempt", () => true, { from: attempts });
}

/** Whether bytes tell of any transaction: its tid, as text or as it lies in a file. */
function tellsOfHistory(bytes: Uint8Array): boolean {
  const text = String.fromCharCode(...bytes);
  return /036c90000000000[12]/.test(text) || text.includes("\x03\x6c\x90\0\0\0\0");
}

/** Everything that comes until the connection ends. */
async function hearAll(wire: Wire): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for (let body = await wire.receive(); body !== null; body = await wire.receive()) parts.push(frame(body));
  return join(...parts);
}

/** Relays connections, keeps what both sides said, and cuts where the test says. */
class RecordingNetwork implements Network {
  readonly said: { readonly up: Uint8Array[]; readonly down: Uint8Array[] } = { up: [], down: [] };
  readonly #scene: Scene;

  constructor(scene: Scene) {
    this.#scene = scene;
  }

  async connect(address: Address): Promise<Connection> {
    const { said } = this;
    const connection = await this.#scene.network.connect(address);
    return {
      peer: connection.peer,
      get written() {
        return connection.written;
      },
      async read(into) {
        const count = await connection.read(into);
        if (count !== null) said.down.push(into.slice(0, count));
        return count;
      },
      async write(bytes) {
        said.up.push(bytes.slice());
        await connection.write(bytes);
      },
      close: () => connection.close(),
      [Symbol.dispose]: () => connection.close(),
    };
  }

  async listen(address: Address) {
    return await this.#scene.network.listen(address);
  }
}

Deno.test("nodes with the same secret replicate, and so does a chain of them", async () => {
  const scene = sceneWithFiles();
  await using primary = await scene.startPrimary({ secret: SECRET });
  const middle = { path: COPY, replicateFrom: HERE, replicateTo: SOURCE, secret: SECRET };
  await using secondary = await startSecondary(middle, scene);
  await using last = await startSecondary(
    { path: "/copy/last.fs", replicateFrom: SOURCE, secret: SECRET },
    scene,
  );
  await last.waitForTid(TID + 1n);
  assertSameBytes(scene.disk.bytes("/copy/last.fs"), FILE);
  for (const { log } of [primary, secondary, last]) assert.deepEqual(log.complaints(), []);
  assert.deepEqual(primary.node.status().peers.map(({ protocol }) => protocol), ["native"]);
});

Deno.test("a secret that is replaced counts for connections from then on", async () => {
  const scene = sceneWithFiles();
  const secret = { bytes: OTHER.bytes };
  await using primary = await scene.startPrimary({ secret });
  const options = { path: COPY, replicateFrom: HERE, retryMaxMs: RETRY_MS, secret: SECRET };
  await using secondary = await startSecondary(options, scene);
  await secondary.log.waitFor(/another secret/);
  secret.bytes = SECRET.bytes;
  await tryAgain(scene, secondary);
  await secondary.waitForTid(TID + 1n);
  await primary.log.waitFor(/: connected with/);
});

for (
  const { who, source, secondary: own, protocol, here, there } of [
    {
      who: "with another secret",
      source: SECRET,
      secondary: OTHER,
      here: /^here:5000: refused: the secondary has another secret than this source: give both the same/,
      there: /^client:1: dropped: .* the secondary has another secret/,
    },
    {
      who: "without a secret",
      source: SECRET,
      secondary: undefined,
      here: /^here:5000: refused: this source demands a secret, .* start it with --auth-file/,
      there: /^client:1: dropped: .* this source demands a secret/,
    },
    {
      who: "with a secret, at a source without one",
      source: undefined,
      secondary: SECRET,
      here: /^here:5000: refused: .* this source has none: start it with --auth-file/,
      there: /^client:1: dropped: .* this source has none/,
    },
    {
      who: "that speaks zrs2",
      source: SECRET,
      secondary: undefined,
      protocol: "zrs2",
      here: /this source demands a secret, and zrs2 knows none/,
      there: /^client:1: dropped: .* zrs2 knows none/,
    },
  ] as const
) {
  Deno.test(`a secondary ${who} is refused in words, and nothing is told or written`, async () => {
    const scene = sceneWithFiles();
    const network = new RecordingNetwork(scene);
    await using primary = await scene.startPrimary({ secret: source });
    await using secondary = await startSecondary({
      ...{ path: COPY, replicateFrom: HERE, retryMaxMs: RETRY_MS, secret: own },
      ...(protocol !== undefined && { protocol }),
    }, { ...scene, network });
    assert.equal((await secondary.log.waitFor(here)).level, "error");
    assert.equal((await primary.log.waitFor(there)).level, "warning");
    assert(!tellsOfHistory(join(...network.said.down)), "the source told nothing");
    if (own !== undefined) assert(!tellsOfHistory(join(...network.said.up)), "the secondary told nothing");
    assertSameBytes(scene.disk.bytes(COPY), BEGUN);
    assert.deepEqual(primary.node.status().peers, []);

    // Again and again it is the same, and told once.
    await tryAgain(scene, secondary);
    await tryAgain(scene, secondary);
    assert.equal(primary.log.matching(there).length, 1);
  });
}

Deno.test("a secret travels in no form that can be read from the wire", async () => {
  const scene = sceneWithFiles();
  const network = new RecordingNetwork(scene);
  await using _primary = await scene.startPrimary({ secret: SECRET });
  const options = { path: COPY, replicateFrom: HERE, secret: SECRET };
  await using secondary = await startSecondary(options, { ...scene, network });
  await secondary.waitForTid(TID + 1n);
  const all = String.fromCharCode(...join(...network.said.up, ...network.said.down));
  for (const form of [String.fromCharCode(...SECRET.bytes), SECRET.bytes.toHex(), SECRET.bytes.toBase64()]) {
    assert(!all.includes(form));
  }
});

/** Has two nodes with the secret replicate. @returns what each of them said, in whole writes */
async function conversation(): Promise<{ up: Uint8Array[]; down: Uint8Array[] }> {
  const scene = sceneWithFiles();
  const network = new RecordingNetwork(scene);
  await using _primary = await scene.startPrimary({ secret: SECRET });
  const options = { path: COPY, replicateFrom: HERE, secret: SECRET };
  await using secondary = await startSecondary(options, { ...scene, network });
  await secondary.waitForTid(TID + 1n);
  return network.said;
}

/** Nonces like those of a scene's, and different from them. */
function sceneLater(): Scene {
  const scene = sceneWithFiles();
  scene.random.bytes(1);
  scene.random.bytes(1);
  return scene;
}

Deno.test("what a good secondary said opens no source a second time", async () => {
  const { up } = await conversation();
  const scene = sceneLater();
  await using primary = await scene.startPrimary({ secret: SECRET });
  const wire = await scene.connect();
  await wire.send(...up.slice(0, 3)); // introduction, proof and hello
  const answers = await hearAll(wire);
  assert.match(new TextDecoder().decode(answers), /"challenge".*"unauthorised"/s);
  assert(!tellsOfHistory(answers));
  await primary.log.waitFor(/another secret than this source/);
});

Deno.test("what a good source said persuades no secondary a second time", async () => {
  const { down } = await conversation();
  const scene = sceneLater();
  using source = await scene.listen();
  await using secondary = await scene.startSecondary({
    protocol: "auto",
    retryMaxMs: RETRY_MS,
    secret: SECRET,
  });
  const wire = await source.accept();
  await wire.send(...down);
  await secondary.log.waitFor(
    /^source:5000: it has not proved that it has our secret: it has another secret/,
  );
  const said = await hearAll(wire);
  assert.doesNotMatch(new TextDecoder().decode(said), /hello/);
  assert(!tellsOfHistory(said));
  assertSameBytes(scene.disk.bytes(COPY), BEGUN);
});

Deno.test("a source's own words, and a secondary's, are no proof when they come back", async () => {
  const scene = sceneWithFiles();
  await using primary = await scene.startPrimary({ secret: SECRET });
  const wire = await scene.connect();
  await wire.send(INTRODUCTION);
  await wire.send(control(await hear(wire)));
  assert.equal((await hear(wire)).type, "bye");
  assert.equal(await wire.receive(), null);
  await primary.log.waitFor(/dropped: Cannot take message challenge/);

  using source = await scene.listen();
  await using secondary = await scene.startSecondary({
    protocol: "auto",
    retryMaxMs: RETRY_MS,
    secret: SECRET,
  });
  const back = await source.accept();
  const { nonce } = await hear(back);
  await back.send(control({ type: "challenge", nonce }));
  await back.send(control(await hear(back)));
  await secondary.log.waitFor(/has not proved that it has our secret/);
  assertSameBytes(scene.disk.bytes(COPY), BEGUN);
});

/** A proof as docs/native_protocol.md has it, "Authentication". */
function proofOf(role: string, ...frames: Uint8Array[]): Uint8Array {
  const covered = join(latin1(`zrs native stream, ${role}\0`), ...frames);
  return control({ type: "proof", proof: createHmac("sha256", SECRET.bytes).update(covered).digest("hex") });
}

Deno.test("a handshake as the document has it is taken at either end, with fields that nobody knows", async () => {
  const scene = sceneWithFiles();
  await using _primary = await scene.startPrimary({ secret: SECRET });
  const wire = await scene.connect();
  const introduction = control({ type: "introduction", colour: "blue", nonce: NONCE });
  await wire.send(introduction);
  const challenge = framed((await wire.receive())!);
  const proof = proofOf("secondary", introduction, challenge);
  await wire.send(proof, HELLO);
  assertSameBytes(framed((await wire.receive())!), proofOf("source", introduction, challenge, proof));
  assert.equal((await hear(wire))["type"], "welcome");

  using source = await scene.listen();
  await using _secondary = await scene.startSecondary({ protocol: "auto", secret: SECRET });
  const other = await source.accept();
  const introduced = framed((await other.receive())!);
  const challenged = control({ colour: "blue", nonce: NONCE, type: "challenge" });
  await other.send(challenged);
  const proved = framed((await other.receive())!);
  assertSameBytes(proved, proofOf("secondary", introduced, challenged));
  await other.send(proofOf("source", introduced, challenged, proved));
  assert.equal((await hear(other))["type"], "hello");
});

/** What is said to a source in place of what it waits for. */
const AT_SOURCE: readonly { readonly what: string; readonly said: Uint8Array[]; readonly says: RegExp }[] = [
  { what: "a hello", said: [HELLO], says: /demands a secret/ },
  { what: "a hello behind the introduction", said: [INTRODUCTION, HELLO], says: /demands a secret/ },
  { what: "a proof of nothing", said: [control({ type: "proof", proof: PROOF })], says: /demands a secret/ },
  { what: "a second introduction", said: [INTRODUCTION, INTRODUCTION], says: /demands a secret/ },
  {
    what: "a wrong proof, and a hello at once",
    said: [INTRODUCTION, control({ type: "proof", proof: PROOF }), HELLO],
    says: /another secret/,
  },
  ...["", "5a", "5a".repeat(31), "5a".repeat(33), "5A".repeat(32), "5a".repeat(30_000), 7, null].flatMap((
    value,
  ) => [
    {
      what: `a nonce of ${JSON.stringify(value).length} characters`,
      said: [control({ type: "introduction", nonce: value, mustUnderstand: true })],
      says: /its field nonce must be 64 hexadecimal digits/,
    },
    {
      what: `a proof of ${JSON.stringify(value).length} characters`,
      said: [INTRODUCTION, control({ type: "proof", proof: value })],
      says: /its field proof must be 64 hexadecimal digits/,
    },
  ]),
  { what: "a beat", said: [control({ type: "answer", answer: 1 })], says: /no secondary says that here/ },
  {
    what: "a zrs2 greeting as Python sends it",
    said: [framed("zrs2.1"), framed(eight(TID))],
    says: /zrs2 knows none/,
  },
];

Deno.test("whatever is said to a source in place of a proof, it tells nothing and goes on", async () => {
  const scene = sceneWithFiles();
  await using primary = await scene.startPrimary({ secret: SECRET });
  for (const { what, said, says } of AT_SOURCE) {
    const from = primary.log.lines.items.length;
    const wire = await scene.connect();
    await wire.send(...said);
    const answers = await hearAll(wire);
    assert(!tellsOfHistory(answers), what);
    assert.doesNotMatch(new TextDecoder().decode(answers), /welcome|"ask"/, what);
    // What was told already is left out; the words to the other end come each time.
    if (primary.log.matching(says).length === 0) await primary.log.waitFor(says, { from });
  }
  await using secondary = await startSecondary({ path: COPY, replicateFrom: HERE, secret: SECRET }, scene);
  await secondary.waitForTid(TID + 1n);
});

/** What is said to a secondary in place of what it waits for. */
const AT_SECONDARY: readonly { readonly what: string; readonly said: Uint8Array[]; readonly says: RegExp }[] =
  [
    {
      what: "a welcome",
      said: [control({
        ...{ type: "welcome", version: 1, software: "x", capabilities: [], beatMs: 1_000 },
        ...{ lastTid: "036c900000000002", end: 4 },
      })],
      says: /has not proved that it has our secret/,
    },
    {
      what: "a question",
      said: [control({ type: "ask", question: { kind: "marks", after: null, before: null, count: 1 } })],
      says: /has not proved that it has our secret/,
    },
    {
      what: "a challenge and a wrong proof",
      said: [control({ type: "challenge", nonce: NONCE }), control({ type: "proof", proof: PROOF })],
      says: /has not proved that it has our secret/,
    },
    {
      what: "a proof without a challenge",
      said: [control({ type: "proof", proof: PROOF })],
      says: /has not proved that it has our secret/,
    },
    {
      what: "a run",
      said: [framed(join(latin1("D"), FILE.subarray(BEGUN.length)))],
      says: /it comes before the welcome, before it has proved/,
    },
    ...["", "5a".repeat(31), "5a".repeat(33), 7, null].map((nonce) => ({
      what: `a nonce of ${JSON.stringify(nonce).length} characters`,
      said: [control({ type: "challenge", nonce })],
      says: /its field nonce must be 64 hexadecimal digits/,
    })),
    {
      what: "a transaction of zrs2",
      said: [framed(latin1("(X\x01\0\0\0T(tt."))],
      says: /before it has proved that it has our secret/,
    },
    {
      what: "a goodbye that tells of a pack",
      said: [control({ type: "bye", code: "again", reason: "packed", packedTo: "036c900000000001" })],
      says: /source:5000: packed; connecting again/,
    },
  ];

for (const { what, said, says } of AT_SECONDARY) {
  Deno.test(`a secondary with a secret takes ${what} for no proof`, async () => {
    const scene = sceneWithFiles();
    using source = await scene.listen();
    await using secondary = await scene.startSecondary({
      protocol: "auto",
      retryMaxMs: RETRY_MS,
      secret: SECRET,
    });
    const wire = await source.accept();
    await wire.send(...said);
    await secondary.log.waitFor(says);
    assert(!tellsOfHistory(await hearAll(wire)));
    assertSameBytes(scene.disk.bytes(COPY), BEGUN);
    assert.equal(secondary.node.status().source?.packedTo, undefined);
    // It never tries zrs2 instead.
    await tryAgain(scene, secondary);
    assert.equal((await hear(await source.accept()))["type"], "introduction");
  });
}

Deno.test("a secondary with a secret says nothing of its history in all the time it waits for a proof", async () => {
  const scene = sceneWithFiles();
  using source = await scene.listen();
  const times = { peerTimeoutMs: 60_000, keepAliveMs: 1_000 };
  await using secondary = await scene.startSecondary({ protocol: "auto", secret: SECRET, ...times });
  const wire = await source.accept();
  assert.equal((await hear(wire))["type"], "introduction");
  while (secondary.log.matching(/connecting again/).length === 0) {
    scene.clock.advance(await scene.clock.waitForTimer(1, 60_000));
  }
  assert.equal((await hearAll(wire)).length, 0);
  await secondary.log.waitFor(
    /said nothing for 60 s, before it has proved that it has our secret; it may have/,
  );
});

Deno.test("a connection may be cut at any byte of the handshake, in either direction", async () => {
  const { up, down } = await conversation();
  // The introduction and the proof; the challenge and the other proof.
  const [ups, downs] = [join(...up.slice(0, 2)).length, join(...down.slice(0, 2)).length];
  assert(ups > 200 && downs > 150);
  const scene = sceneWithFiles();
  await using primary = await scene.startPrimary({ secret: SECRET });
  const from = await scene.network.listen(SOURCE);
  await using secondary = await scene.startSecondary({
    protocol: "auto",
    retryMaxMs: RETRY_MS,
    secret: SECRET,
  });
  for (const [direction, length] of [["up", ups], ["down", downs]] as const) {
    for (let cut = 0; cut < length; cut++) {
      const near = (await from.accept())!;
      const far = await scene.network.connect(HERE);
      await Promise.all([
        relay(near, far, direction === "up" ? cut : Infinity),
        relay(far, near, direction === "down" ? cut : Infinity),
      ]);
      await othersHaveRun();
      scene.clock.advance(RETRY_MS);
    }
  }
  assertSameBytes(scene.disk.bytes(COPY), BEGUN);
  assert.equal(
    secondary.log.matching(/before it has proved that it has our secret.*connecting again/).length,
    ups + downs,
  );
  assert.deepEqual(primary.log.complaints(), []);

  const near = (await from.accept())!;
  const far = await scene.network.connect(HERE);
  const relays = Promise.all([relay(near, far, Infinity), relay(far, near, Infinity)]);
  await secondary.waitForTid(TID + 1n);
  await secondary.stop();
  await relays;
});

/** Passes on so many bytes, then ends both connections. */
async function relay(from: MemoryConnection, to: MemoryConnection, most: number): Promise<void> {
  const chunk = new Uint8Array(65_536);
  try {
    for (let left = most; left > 0;) {
      const count = await from.read(chunk.subarray(0, Math.min(left, chunk.length)));
      if (count === null) break;
      await to.write(chunk.slice(0, count));
      left -= count;
    }
  } catch {
    // The other direction was cut.
  }
  from.close();
  to.close();
}
