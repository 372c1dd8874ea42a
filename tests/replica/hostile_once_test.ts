/** A source that lies to a copy that is brought up to date once: what comes is not called complete, and not more than was asked for. */
import assert from "node:assert/strict";
import { ProtocolError } from "../../lib/errors.ts";
import { networkSource } from "../../lib/replica/mod.ts";
import { control, type NativeWriter } from "../kit/native_wire.ts";
import { beginningOf, bytesOf, FILE, LAST, TID, tidText, TRANSACTIONS, welcomed } from "./native_kit.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { join } from "../kit/zrs_wire.ts";
import { COPY, Scene, SOURCE } from "./scene.ts";
import { syncFrom } from "./sync_kit.ts";

const LIES: readonly {
  readonly what: string;
  readonly until?: bigint;
  readonly send: (writer: NativeWriter) => Uint8Array;
  readonly complete: bigint;
  readonly says: RegExp;
  /** So many transactions of the file come whole. */
  readonly keeps: number;
}[] = [
  {
    what: "calls less complete than it has promised",
    send: (writer) => writer.run({ bytes: bytesOf(FILE, 0, 1), tid: TID + 1n, count: 2 }),
    complete: TID + 1n,
    says: /the source ends with .*, and it has promised all up to/,
    keeps: 2,
  },
  {
    what: "calls nothing complete",
    send: () => new Uint8Array(),
    complete: 0n,
    says: /the source ends with nothing, and it has promised all up to/,
    keeps: 0,
  },
  {
    what: "sends bytes of what is later than was asked for",
    until: TID + 1n,
    send: (writer) =>
      join(
        writer.run({ bytes: bytesOf(FILE, 0, 1), tid: TID + 1n, count: 2 }),
        writer.run({ bytes: bytesOf(FILE, 2, 3), tid: LAST, count: 2 }),
      ),
    complete: LAST,
    says: /nothing later than .* was asked for/,
    keeps: 2,
  },
  {
    what: "sends a record of what is later than was asked for",
    until: TID + 1n,
    send: (writer) => join(...TRANSACTIONS.map((each) => writer.transaction(each))),
    complete: LAST,
    says: /nothing later than .* was asked for/,
    keeps: 2,
  },
];

for (const { what, until, send, complete, says, keeps } of LIES) {
  Deno.test(`a source that ${what} has broken the protocol, and what came before is kept`, async () => {
    const scene = new Scene();
    using primary = await scene.listen();
    const source = () => Promise.resolve(networkSource(scene, SOURCE));
    const syncing = syncFrom(scene, source, until === undefined ? {} : { until });
    const { wire } = await welcomed(primary, {
      capabilities: ["raw", "once"],
      lastTid: tidText(LAST),
      end: FILE.end,
      fit: "prefix",
    });
    const last = control({ type: "complete", lastTid: tidText(complete), end: FILE.end });
    await wire.send(send(wire.writer), last).catch(() => {});
    const { failure } = await syncing;
    assert(failure instanceof ProtocolError, String(failure));
    assert.match(failure.message, says);
    if (keeps === 0) assert.equal(scene.disk.status(COPY), undefined);
    else assertSameBytes(scene.disk.bytes(COPY), beginningOf(FILE, keeps));
  });
}
