/** A link that breaks in the middle of a large transaction, between two processes: only the rest travels again. */
import assert from "node:assert/strict";
import { dataFs } from "../kit/data_fs.ts";
import { addressOf } from "../kit/node.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { TempDirectory } from "../kit/temp.ts";
import { ZrsProcess } from "./processes.ts";

const MIB = 1024 * 1024;
const BROKEN_AFTER = 30 * MIB;

/** Passes connections on to a source, the first one up to so many bytes from there; counts what each has carried. */
class BreakingLink implements Disposable {
  readonly carried: number[] = [];
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #port: number;

  constructor(source: string) {
    const address = addressOf(source);
    assert(address.transport === "tcp");
    this.#port = address.port;
    void this.#accept();
  }

  get address(): string {
    return `127.0.0.1:${this.#listener.addr.port}`;
  }

  async #accept(): Promise<void> {
    for await (const secondary of this.#listener) {
      const source = await Deno.connect({ hostname: "127.0.0.1", port: this.#port });
      const number = this.carried.push(0) - 1;
      const end = () => {
        for (const each of [secondary, source]) {
          try {
            each.close();
          } catch {
            // The other direction has ended before.
          }
        }
      };
      secondary.readable.pipeTo(source.writable, { preventClose: true }).catch(() => {}).finally(end);
      const count = new TransformStream<Uint8Array, Uint8Array>({
        transform: (chunk, controller) => {
          this.carried[number]! += chunk.length;
          controller.enqueue(chunk);
          if (number === 0 && this.carried[0]! >= BROKEN_AFTER) controller.terminate();
        },
      });
      source.readable.pipeThrough(count).pipeTo(secondary.writable).catch(() => {}).finally(end);
    }
  }

  [Symbol.dispose](): void {
    this.#listener.close();
  }
}

Deno.test("a large transaction whose link breaks half way travels on, not again", async () => {
  await using directory = await TempDirectory.make();
  const [original, copy] = [directory.join("original.fs"), directory.join("copy.fs")];
  const records = Array.from({ length: 60 }, (_, i) => ({ oid: BigInt(i), data: `${i % 10}`.repeat(MIB) }));
  const file = dataFs([{ tid: 0x036c_9000_0000_0001n, records }]).bytes;
  await Deno.writeFile(original, file);
  await using source = await ZrsProcess.start(
    directory,
    ...["primary", original, "--replicate-to", "127.0.0.1:0", "--compress", "off"],
  );
  using link = new BreakingLink(source.address);
  await using replica = await ZrsProcess.start(
    directory,
    ...["secondary", copy, "--replicate-from", link.address],
  );
  await replica.process.stderr.waitFor("all of it", (line) => /has all that the source has/.test(line));
  assert.equal(link.carried.length, 2);
  const [first, second] = link.carried as [number, number];
  assert(first >= BROKEN_AFTER && first < file.length, `${first} bytes before the link broke`);
  // What was under way when it broke may have been lost.
  assert(second < file.length - BROKEN_AFTER + 10 * MIB, `${second} of ${file.length} bytes the second time`);
  assert.equal(await replica.stop(), 0);
  assertSameBytes(await Deno.readFile(copy), file);
});
