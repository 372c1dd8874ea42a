import assert from "node:assert/strict";
import { Storage } from "../../lib/filestorage/mod.ts";
import { Sink } from "../../lib/replica/receiving/sink.ts";
import { CollectedLog } from "../kit/collected_log.ts";
import { dataFs } from "../kit/data_fs.ts";
import { othersHaveRun } from "../kit/manual_clock.ts";
import { TID } from "./native_kit.ts";
import { COPY, Scene } from "./scene.ts";

Deno.test("a full buffer behind a write that has failed is an error, not a wait for ever", async () => {
  const scene = new Scene();
  await using storage = await Storage.open(scene.disk, COPY);
  const buffers = { readBytes: 512, runBytes: 1_000, sendBytes: 1_000 };
  const ports = { ...scene, log: new CollectedLog() };
  const sink = new Sink(ports, storage, buffers, new AbortController().signal);
  const data = "x".repeat(600);
  const file = dataFs([0n, 1n, 2n].map((at) => ({ tid: TID + at, records: [{ oid: at, data }] })));
  const take = (first: number, last: number) => {
    sink.restorer.beginRaw();
    sink.restorer.data(file.bytes, file.transactions[first]!.position, file.transactions[last]!.end);
    sink.restorer.endRaw(() => {});
  };
  scene.disk.fail({ operation: "sync", path: COPY, lasting: true });
  take(0, 0);
  let failed = false;
  sink.onFailure = () => failed = true;
  await sink.settle();
  while (!failed) await othersHaveRun();
  await othersHaveRun();
  take(1, 2);
  await assert.rejects(sink.settle(), /input\/output error/);
});
