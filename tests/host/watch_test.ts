/** Hearing of changes in a directory. A test that hears nothing hangs, and so fails. */

import assert from "node:assert/strict";
import { setImmediate } from "node:timers";
import { systemHost } from "../../lib/host/mod.ts";
import { inTempDir } from "./kit.ts";

const { disk } = systemHost();

Deno.test("a file that grows, appears or is replaced calls back", () =>
  inTempDir(async (dir) => {
    Deno.writeTextFileSync(`${dir}/Data.fs`, "FS21");
    let heard = Promise.withResolvers<void>();
    using _watch = disk.watch(dir, () => heard.resolve());
    const changes = [
      () => Deno.writeTextFileSync(`${dir}/Data.fs`, "more", { append: true }),
      () => Deno.writeTextFileSync(`${dir}/Data.fs.pack`, "FS21"),
      () => Deno.renameSync(`${dir}/Data.fs.pack`, `${dir}/Data.fs`),
      () => Deno.removeSync(`${dir}/Data.fs`),
    ];
    for (const change of changes) {
      heard = Promise.withResolvers();
      change();
      await heard.promise;
    }
  }));

Deno.test("a flood of changes calls back far fewer times, and again after its end", () =>
  inTempDir(async (dir) => {
    using file = disk.create(`${dir}/Data.fs`);
    const writes = 5000;
    let calls = 0;
    let seen = 0;
    const all = Promise.withResolvers<void>();
    using _watch = disk.watch(dir, () => {
      calls++;
      seen = file.size();
      if (seen === writes) all.resolve();
    });
    for (let i = 0; i < writes; i++) file.writeAt(new Uint8Array(1), i);
    await all.promise;
    assert.ok(calls < writes / 2, `${calls} calls for ${writes} writes`);
  }));

Deno.test("opening a file and closing it unchanged calls nobody back", () =>
  inTempDir(async (dir) => {
    Deno.writeTextFileSync(`${dir}/Data.fs`, "FS21");
    let calls = 0;
    using _watch = disk.watch(dir, () => calls++);
    // Another watcher tells when the system has reported it.
    using witness = Deno.watchFs(dir);
    disk.openWrite(`${dir}/Data.fs`).close();
    for await (const event of witness) {
      assert.equal(event.kind, "access");
      break;
    }
    for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
    assert.equal(calls, 0);
  }));

Deno.test("what happens to files of other names calls nobody back where a prefix is given", () =>
  inTempDir(async (dir) => {
    let calls = 0;
    let heard = Promise.withResolvers<void>();
    using _watch = disk.watch(dir, () => {
      calls++;
      heard.resolve();
    }, "Data.fs");
    for (const name of ["Data.fs", "Data.fs.pack"]) {
      for (let i = 0; i < 100; i++) Deno.writeTextFileSync(`${dir}/busy.log`, "line\n", { append: true });
      Deno.writeTextFileSync(`${dir}/${name}`, "");
      await heard.promise; // events come in order: by now those of the log have come
      heard = Promise.withResolvers();
      assert.ok(calls <= 2, `${calls} calls`);
      calls = 0;
    }
    Deno.removeSync(`${dir}/Data.fs`);
    await heard.promise;
  }));

Deno.test("a directory that vanishes, or never was, makes no trouble", () =>
  inTempDir((dir) => {
    Deno.mkdirSync(`${dir}/gone`);
    const watch = disk.watch(`${dir}/gone`, () => {});
    Deno.removeSync(`${dir}/gone`);
    watch[Symbol.dispose]();
    watch[Symbol.dispose]();
    disk.watch(`${dir}/none`, () => {})[Symbol.dispose]();
  }));
