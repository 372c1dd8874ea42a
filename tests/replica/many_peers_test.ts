/** However many connect, and however often: a bounded number is served, and the log stays readable. */
import assert from "node:assert/strict";
import { UnavailableError } from "../../lib/errors.ts";
import type { Listener } from "../../lib/ports/mod.ts";
import type { TransactionLog } from "../../lib/filestorage/mod.ts";
import { RepeatedLog } from "../../lib/replica/repeated_log.ts";
import { SharedLook } from "../../lib/replica/sending/shared_look.ts";
import { CollectedLog } from "../kit/collected_log.ts";
import { dataFs } from "../kit/data_fs.ts";
import { ManualClock } from "../kit/manual_clock.ts";
import { ORIGINAL, Scene } from "./scene.ts";

const TID = 0x036c_9000_0000_0001n;

function newScene(): Scene {
  const scene = new Scene();
  scene.disk.put(ORIGINAL, dataFs([{ tid: TID, records: [{ oid: 0n, data: "one" }] }]).bytes);
  return scene;
}

Deno.test("beyond its limit a primary refuses secondaries in words, until one of the others has gone", async () => {
  const scene = newScene();
  await using primary = await scene.startPrimary({ maxSecondaries: 2 });
  const first = await scene.connect();
  await first.greet(0n);
  assert.notEqual(await first.receive(), null);
  const second = await scene.connect();
  await second.greet(0n);
  assert.notEqual(await second.receive(), null);
  const third = await scene.connect();
  await third.greet(0n);
  const said = new TextDecoder().decode((await third.receive())!);
  assert.match(said, /refused: this source serves as many secondaries already/);
  assert.equal(await third.receive(), null);
  first.close();
  await primary.log.waitFor(/disconnected/);
  const fourth = await scene.connect();
  await fourth.greet(0n);
  assert.doesNotMatch(new TextDecoder().decode((await fourth.receive())!), /refused/);
});

Deno.test("connections that have not greeted are limited, too, and the further ones closed at once", async () => {
  const scene = newScene();
  await using primary = await scene.startPrimary({ maxSecondaries: 2 });
  for (let i = 0; i < 8; i++) await scene.connect();
  for (let i = 0; i < 5; i++) assert.equal(await (await scene.connect()).receive(), null);
  assert.equal(primary.log.matching(/Closed a connection at once: 8 are open already/).length, 1);
});

Deno.test("a secondary that comes again and again to be refused is told of once a minute, with a count", async () => {
  const scene = newScene();
  await using primary = await scene.startPrimary();
  const ask = async () => {
    const peer = await scene.connect();
    await peer.greet(TID + 1n);
    await peer.receiveEnd();
  };
  for (let i = 0; i < 20; i++) await ask();
  assert.equal(primary.log.lines.items.filter(({ message }) => message.startsWith("client:")).length, 1);
  scene.clock.advance(60_000);
  await ask();
  await primary.log.waitFor(/refused: ahead: .* \(and 19 times since 2024-01-02T03:04:05.000Z\)$/);
});

Deno.test("messages are told apart by host and by words, not by port", () => {
  const log = new CollectedLog();
  const repeated = new RepeatedLog(new ManualClock(), log);
  repeated.tell("error", "a:1", "Cannot serve a:1");
  repeated.tell("error", "a:2", "Cannot serve a:2");
  repeated.tell("error", "b:2", "Cannot serve b:2");
  repeated.tell("error", "a:3", "Something else");
  assert.deepEqual(log.lines.items.map(({ message }) => message), [
    "a:1: Cannot serve a:1",
    "b:2: Cannot serve b:2",
    "a:3: Something else",
  ]);
});

Deno.test("an accept that fails again and again is told of once", async () => {
  const scene = newScene();
  const listen = scene.network.listen.bind(scene.network);
  let failures = 20;
  scene.network.listen = async (address) => {
    const listener = await listen(address);
    const accept: Listener["accept"] = listener.accept.bind(listener);
    return Object.assign(listener, {
      accept: () => failures-- > 0 ? Promise.reject(new UnavailableError("Cannot accept")) : accept(),
    }) as typeof listener;
  };
  await using primary = await scene.startPrimary();
  const peer = await scene.connect();
  await peer.greet(0n);
  assert.notEqual(await peer.receive(), null);
  assert.equal(primary.log.matching(/Cannot accept/).length, 1);
});

Deno.test("feeds that end while the log cannot be looked at leave nothing with it", async () => {
  const pending: (() => void)[] = [];
  const log = {
    lookAgain: () => new Promise<void>((resolve) => pending.push(resolve)),
  } as unknown as TransactionLog;
  const look = new SharedLook(log);
  const answered: number[] = [];
  for (let i = 0; i < 100; i++) {
    const question = look.ask(() => answered.push(i));
    if (i % 50 !== 7) question[Symbol.dispose]();
  }
  assert.equal(pending.length, 1);
  pending[0]!();
  await Promise.resolve();
  // The first look was asked for by one that has gone; those who came after it need another.
  assert.deepEqual(answered, []);
  assert.equal(pending.length, 2);
  pending[1]!();
  await Promise.resolve();
  assert.deepEqual(answered, [7, 57]);
});
