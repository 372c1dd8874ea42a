import assert from "node:assert/strict";
import { checkOutputs, logOptions, type ServerOptions, tlsFiles } from "../../lib/cli/options.ts";
import { UsageError } from "../../lib/errors.ts";
import { systemHost } from "../../lib/host/mod.ts";
import { TempDirectory } from "../kit/temp.ts";

const { disk } = systemHost();

function options(given: Partial<ServerOptions>): ServerOptions {
  return { dataFs: "/nowhere/Data.fs", quiet: false, verbose: false, ...given };
}

Deno.test("the log is as detailed as was asked for", () => {
  assert.deepEqual(logOptions(options({})), { level: "info" });
  assert.deepEqual(logOptions(options({ quiet: true })), { level: "warning" });
  assert.deepEqual(logOptions(options({ verbose: true, logFile: "/l" })), { level: "debug", file: "/l" });
  assert.throws(() => logOptions(options({ quiet: true, verbose: true })), UsageError);
});

Deno.test("neither log nor ready file nor control socket may be a file of the database, but its own", () => {
  for (
    const suffix of [
      "",
      ".index",
      ".lock",
      ".old",
      ".pack",
      ".tmp",
      ".tr0",
      ".tr12",
      ".index.index_tmp",
      ".zrs",
      ".secondaries",
      ".pending.0000000000000004",
    ]
  ) {
    const path = `/nowhere/Data.fs${suffix}`;
    assert.throws(() => checkOutputs(options({ logFile: path }), disk), UsageError, path);
    assert.throws(() => checkOutputs(options({ readyFile: path }), disk), UsageError, path);
    if (suffix !== ".zrs") {
      assert.throws(() => checkOutputs(options({ control: path }), disk), UsageError, path);
    }
  }
  checkOutputs(options({ control: "/nowhere/Data.fs.zrs" }), disk);
  checkOutputs(options({ logFile: "/nowhere/Data.fs.log", readyFile: "/nowhere/Data.fs.ready" }), disk);
});

Deno.test("log and ready file may not lead to the database through links", async () => {
  await using directory = await TempDirectory.make();
  const dataFs = directory.join("Data.fs");
  await Deno.writeTextFile(dataFs, "FS30");
  await Deno.symlink("Data.fs", directory.join("soft"));
  await Deno.link(dataFs, directory.join("hard"));
  await Deno.mkdir(directory.join("sub"));
  const ways = [
    directory.join("soft"),
    directory.join("hard"),
    `${directory.path}/sub/../Data.fs`,
    `${directory.path}/sub/../Data.fs.index`,
    `${directory.path}/./Data.fs.lock`,
  ];
  for (const path of ways) {
    assert.throws(() => checkOutputs(options({ dataFs, logFile: path }), disk), UsageError, path);
    assert.throws(() => checkOutputs(options({ dataFs, readyFile: path }), disk), UsageError, path);
  }
  checkOutputs(options({ dataFs, logFile: directory.join("log"), readyFile: directory.join("ready") }), disk);
});

Deno.test("log and ready file are two files", () => {
  assert.throws(
    () => checkOutputs(options({ logFile: "/nowhere/x", readyFile: "/nowhere/x" }), disk),
    UsageError,
  );
});

Deno.test("certificate, key and authority are given together or not at all", () => {
  const all = { tlsCert: "a.crt", tlsKey: "a.key", tlsCa: "ca.crt" };
  assert.equal(tlsFiles(options({})), undefined);
  assert.deepEqual(tlsFiles(options(all)), { cert: "a.crt", key: "a.key", ca: "ca.crt" });
  const hint = "Give all of --tls-cert, --tls-key and --tls-ca, or none";
  for (const [missing, name] of [["tlsCert", "cert"], ["tlsKey", "key"], ["tlsCa", "ca"]] as const) {
    const message = `Cannot encrypt without --tls-${name}`;
    assert.throws(() => tlsFiles(options({ ...all, [missing]: undefined })), {
      name: "UsageError",
      message,
      hint,
    });
  }
  assert.throws(() => tlsFiles(options({ tlsName: "db1" })), {
    message: "Cannot encrypt without --tls-cert and --tls-key and --tls-ca",
  });
});
