/** A peer that talks nonsense is named in the log and dropped; the server goes on, and its file stays as it was. */
import assert from "node:assert/strict";
import { run } from "../../lib/cli/mod.ts";
import { dataFs } from "../kit/data_fs.ts";
import { beforeDeadline } from "../kit/feed.ts";
import { TempDirectory } from "../kit/temp.ts";
import { ScriptedHost } from "./scripted_host.ts";

const LAST_TID = 0x3f0000000000002n;
const FILE = dataFs([
  { tid: 0x3f0000000000001n, records: [{ oid: 0n, data: "first" }] },
  { tid: LAST_TID, records: [{ oid: 0n, data: "second" }] },
]).bytes;

const encoder = new TextEncoder();

/** A message of the stream: its length in 4 bytes, and its body. */
function message(body: string | Uint8Array): Uint8Array {
  const bytes = typeof body === "string" ? encoder.encode(body) : body;
  const framed = new Uint8Array(4 + bytes.length);
  new DataView(framed.buffer).setUint32(0, bytes.length);
  framed.set(bytes, 4);
  return framed;
}

function concat(...parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(parts.flatMap((part) => [...part]));
}

/** The pickle of a tuple of a kind and its fields, with bytes written as Python 2 strings. */
function pickle(kind: string, fields: readonly string[]): Uint8Array {
  const string = (text: string) => `U${String.fromCharCode(text.length)}${text}`;
  return Uint8Array.from(`(${string(kind)}(${fields.join("")}tt.`, (character) => character.charCodeAt(0));
}

function short(text: string): string {
  return `U${String.fromCharCode(text.length)}${text}`;
}

const NEW_TID = "\x03\xf0\0\0\0\0\0\x03";
const TRANSACTION = message(pickle("T", [short(NEW_TID), short(" "), short(""), short(""), "}"]));
const RECORD = concat(
  message(pickle("S", [short("\0\0\0\0\0\0\0\x01"), short(NEW_TID), short(""), "N"])),
  message("new"),
);

interface BadSource {
  readonly says: string;
  readonly sends: Uint8Array;
  readonly logged: RegExp;
}

const SOURCES: readonly BadSource[] = [
  {
    says: "speaks HTTP",
    sends: encoder.encode("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"),
    logged: /Cannot .*\d/,
  },
  {
    says: "sends a length of 4 GB",
    sends: new Uint8Array([0xff, 0xff, 0xff, 0xff]),
    logged: /4294967295/,
  },
  {
    says: "stops half way in a message",
    sends: concat(TRANSACTION, RECORD).subarray(0, -2),
    logged: /closed/,
  },
  {
    says: "stops half way in a transaction",
    sends: concat(TRANSACTION, RECORD),
    logged: /closed/,
  },
  {
    says: "sends a wrong digest",
    sends: concat(TRANSACTION, RECORD, message(pickle("C", [short("\x01".repeat(16))]))),
    logged: /digest/,
  },
  {
    says: "sends what is no pickle",
    sends: message("no pickle at all"),
    logged: /Cannot/,
  },
  {
    says: "refuses in words",
    sends: message(pickle("refused: ahead: you have more", [])),
    logged: /refuses this replica: ahead: you have more/,
  },
  {
    says: "closes without a word",
    sends: new Uint8Array(),
    logged: /closed the connection/,
  },
];

/** Accepts connections, sends each the bytes, and closes it. */
async function serveBytes(listener: Deno.Listener, bytes: Uint8Array): Promise<void> {
  for await (const connection of listener) {
    try {
      // The whole greeting first, so that closing does not reset the connection under the bytes sent.
      for (let left = 4 + "zrs2.1".length + 4 + 8; left > 0;) {
        const count = await connection.read(new Uint8Array(left));
        if (count === null) break;
        left -= count;
      }
      await connection.write(bytes);
    } catch {
      // It has left: as good as any end.
    }
    connection.close();
  }
}

for (const { says, sends, logged } of SOURCES) {
  Deno.test(`a secondary outlives a source that ${says}`, async () => {
    await using directory = await TempDirectory.make();
    const copy = directory.join("Data.fs");
    await Deno.writeFile(copy, FILE);
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const source = `127.0.0.1:${listener.addr.port}`;
    const serving = serveBytes(listener, sends);
    const host = new ScriptedHost();
    const running = run(["secondary", copy, "--replicate-from", source, "--retry-max", "0.1"], host);

    const line = await host.logged.waitFor(
      "a complaint",
      ({ level }) => level === "warning" || level === "error",
    );
    assert(line.message.startsWith(source), line.message);
    assert.match(line.message, logged);
    const connected = host.logged.items.length;
    await host.logged.waitFor("the next attempt", ({ message }) => message.startsWith("Connected"), {
      from: connected,
    });

    host.signal("SIGTERM");
    assert.equal(await running, 0);
    assert.equal(host.written.err, "");
    assert.deepEqual(await Deno.readFile(copy), FILE);
    listener.close();
    await serving;
  });
}

const TID = Uint8Array.from({ length: 8 }, (_, index) => Number(LAST_TID >> BigInt(56 - 8 * index) & 0xffn));

const CLIENTS: readonly BadSource[] = [
  {
    says: "speaks HTTP",
    sends: encoder.encode("GET / HTTP/1.1\r\nHost: db1\r\n\r\n"),
    logged: /dropped: /,
  },
  {
    says: "sends a length of 4 GB",
    sends: new Uint8Array([0xff, 0xff, 0xff, 0xff]),
    logged: /dropped: .*4294967295/,
  },
  {
    says: "greets in another protocol",
    sends: message("zrs1.0"),
    logged: /dropped: .*zrs1\.0/,
  },
  {
    says: "sends a tid of another length",
    sends: concat(message("zrs2.1"), message("tid")),
    logged: /dropped: /,
  },
  {
    says: "says more than keep-alives",
    sends: concat(message("zrs2.1"), message(TID), message("more")),
    logged: /dropped: /,
  },
  {
    says: "is ahead",
    sends: concat(message("zrs2.1"), message(TID.with(7, 9))),
    logged: /refused: .*03f0000000000009/,
  },
];

for (const { says, sends, logged } of CLIENTS) {
  Deno.test(`a primary drops a secondary that ${says}, and goes on`, async () => {
    await using directory = await TempDirectory.make();
    const path = directory.join("Data.fs");
    const ready = directory.join("ready");
    await Deno.writeFile(path, FILE);
    const host = new ScriptedHost();
    const running = run(["primary", path, "--replicate-to", "0", "--ready-file", ready], host);
    await beforeDeadline("the primary to be ready", host.ready);
    const { replicateTo } = JSON.parse(await Deno.readTextFile(ready));
    const port = Number(replicateTo.split(":")[1]);

    using bad = await Deno.connect({ hostname: "127.0.0.1", port });
    await bad.write(sends);
    const line = await host.logged.waitFor(
      "a complaint",
      ({ level }) => level === "warning" || level === "error",
    );
    assert.match(line.message, /^127\.0\.0\.1:\d+: /);
    assert.match(line.message, logged);

    using good = await Deno.connect({ hostname: "127.0.0.1", port });
    await good.write(concat(message("zrs2.1"), message(TID.with(7, 1))));
    assert.notEqual(await good.read(new Uint8Array(4)), null);

    host.signal("SIGINT");
    assert.equal(await running, 0);
    assert.equal(host.written.err, "");
    assert.deepEqual(await Deno.readFile(path), FILE);
  });
}
