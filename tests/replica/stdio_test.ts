/** A primary that serves the one secondary which holds its standard input and output. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { systemHost } from "../../lib/host/mod.ts";
import type { Connection, Network } from "../../lib/ports/mod.ts";
import { ProcessConnection } from "../../lib/replica/far/process_connection.ts";
import { dataFs } from "../kit/data_fs.ts";
import { startSecondary } from "../kit/node.ts";
import { ChildProcess } from "../kit/process.ts";
import { TempDirectory } from "../kit/temp.ts";

const MAIN = fileURLToPath(new URL("../../main.ts", import.meta.url));
const TRANSACTIONS = [1n, 2n, 3n].map((oid) => ({
  tid: 0x03f5945817777700n + oid,
  records: [{ oid, data: "x".repeat(1000) }],
}));
const LAST_TID = TRANSACTIONS.at(-1)!.tid;

function primaryArgs(path: string): string[] {
  return ["run", "--allow-all", MAIN, "primary", path, "--replicate-to", "-", "--verbose"];
}

/** A network on which every address leads to a new primary. */
class Started implements Network {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  connect(): Promise<Connection> {
    const child = systemHost().processes.spawn(Deno.execPath(), primaryArgs(this.#path));
    return Promise.resolve(new ProcessConnection(child, "the primary"));
  }

  listen(): never {
    throw new Error("Nobody listens here");
  }
}

Deno.test("a secondary replicates from a primary's standard input and output", async () => {
  await using directory = await TempDirectory.make();
  const [source, copy] = [directory.join("Data.fs"), directory.join("copy.fs")];
  const { bytes } = dataFs(TRANSACTIONS);
  Deno.writeFileSync(source, bytes);
  await using secondary = await startSecondary(
    { path: copy, replicateFrom: "primary:1" },
    { network: new Started(source) },
  );
  await secondary.waitForTid(LAST_TID);
  await secondary.stop();
  assert.deepEqual(Deno.readFileSync(copy), bytes);
});

Deno.test("the primary on standard output says nothing else there, and ends when its peer goes", async () => {
  await using directory = await TempDirectory.make();
  Deno.writeFileSync(directory.join("Data.fs"), dataFs(TRANSACTIONS).bytes);
  const child = new Deno.Command(Deno.execPath(), {
    args: primaryArgs(directory.join("Data.fs")),
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  await child.stdin.close();
  const { code, stdout, stderr } = await child.output();
  assert.deepEqual([code, stdout.length], [0, 0]);
  assert.match(new TextDecoder().decode(stderr), /Following .*Data\.fs/);
});

Deno.test("the primary on standard input ends with its refusal, though the peer stays", async () => {
  await using directory = await TempDirectory.make();
  Deno.writeFileSync(directory.join("Data.fs"), dataFs(TRANSACTIONS).bytes);
  await using primary = ChildProcess.start(Deno.execPath(), primaryArgs(directory.join("Data.fs")));
  await primary.write("GET / HTTP/1.0\r\n\r\n");
  const { code } = await primary.exited; // its standard input is still open
  assert.equal(code, 0);
  assert.match(primary.stderr.items.join("\n"), /standard input: dropped: .*HTTP request/);
});
