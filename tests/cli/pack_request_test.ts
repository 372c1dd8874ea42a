/** `pack` on the control socket: what is asked comes to the node, and what the node does and says comes back. */
import assert from "node:assert/strict";
import { ControlServer } from "../../lib/cli/control/control_server.ts";
import { askToPack, packHandler, type PackListener, type PackPlan } from "../../lib/cli/pack/pack_request.ts";
import type { Node } from "../../lib/cli/server.ts";
import {
  CorruptError,
  DiskFullError,
  LockedError,
  UnavailableError,
  UsageError,
  ZrsError,
} from "../../lib/errors.ts";
import type { PackReport } from "../../lib/filestorage/mod.ts";
import type { Host } from "../../lib/host/mod.ts";
import type { PackRequest } from "../../lib/replica/mod.ts";
import { CollectedLog } from "../kit/collected_log.ts";
import { beforeDeadline, Feed } from "../kit/feed.ts";
import { ManualClock, othersHaveRun } from "../kit/manual_clock.ts";
import { MemoryNetwork } from "../kit/memory_network.ts";

const SOCKET = "/data/Data.fs.zrs";
const PLAN: PackPlan = { stop: 0x03f5_9458_0000_0000n, gc: true, keepOld: false, keepForMs: 86_400_000 };
const REPORT: PackReport = {
  isPacked: true,
  tid: 0x03f5_9458_0000_0000n,
  bytesBefore: 300,
  bytesAfter: 100,
  transactionsBefore: 3,
  transactionsAfter: 1,
  keptAs: "/data/Data.fs.old",
  blobsDropped: 7,
  keptFor: { name: "db2", tid: 0x03f5_9458_0000_0001n, heardMs: Date.UTC(2024, 0, 2) },
};

class World {
  readonly clock = new ManualClock();
  readonly network = new MemoryNetwork();
  readonly log = new CollectedLog();
  readonly requests = new Feed<PackRequest>();
  readonly heard: unknown[] = [];
  readonly #stop = new AbortController();

  async listen(pack?: (request: PackRequest) => Promise<PackReport>): Promise<ControlServer> {
    const node = {
      ...(pack !== undefined && {
        pack: (request: PackRequest) => {
          this.requests.push(request);
          return pack(request);
        },
      }),
    } as Node;
    return await ControlServer.listen(this, SOCKET, { pack: packHandler(node, "/data/Data.fs", this.host) });
  }

  get host(): Host {
    return { network: this.network, clock: this.clock } as Partial<Host> as Host;
  }

  async ask(plan = PLAN): Promise<PackReport> {
    const listener: PackListener = {
      signal: this.#stop.signal,
      warn: (message) => void this.heard.push(message),
      progress: (progress) => void this.heard.push(progress),
    };
    return await beforeDeadline("the answer", askToPack(this.host, SOCKET, plan, listener));
  }

  stop(reason: Error): void {
    this.#stop.abort(reason);
  }
}

Deno.test("a node gets the request, and whoever asks its progress, its warnings, and the report", async () => {
  const world = new World();
  await using _server = await world.listen(async ({ progress, warn }) => {
    for (const done of [1, 2, 3]) {
      world.clock.advance(150); // every second one is left out
      progress!({ doing: "copying", done, total: 9 });
      await othersHaveRun();
    }
    warn("Cannot save the index");
    return REPORT;
  });
  assert.deepEqual(await world.ask(), REPORT);
  const [request] = world.requests.items;
  assert.deepEqual([request!.stop, request!.keepOld, typeof request!.findReferences], [
    PLAN.stop,
    false,
    "function",
  ]);
  assert.deepEqual(world.heard, [
    { doing: "reading", done: 0, total: undefined },
    { doing: "copying", done: 2, total: 9 },
    "Cannot save the index",
  ]);
  assert.equal(request!.keepForMs, 86_400_000);
  await world.ask({ ...PLAN, gc: false, keepOld: true, keepForMs: undefined });
  const second = world.requests.items[1]!;
  assert.deepEqual([second.keepOld, second.findReferences, second.keepForMs], [true, undefined, undefined]);
});

Deno.test("a failure there ends the command as one here does", async () => {
  for (const Failure of [UsageError, LockedError, DiskFullError, CorruptError, UnavailableError]) {
    const world = new World();
    await using _server = await world.listen(() => {
      return Promise.reject(new Failure("Cannot pack it", { hint: "do this" }));
    });
    await assert.rejects(world.ask(), (error: Error) => {
      assert.ok(error instanceof ZrsError);
      assert.ok(error instanceof (Failure === DiskFullError ? ZrsError : Failure), error.name);
      assert.deepEqual([error.message, error.hint], ["Cannot pack it", "do this"]);
      return true;
    });
  }
});

Deno.test("a pack is stopped when whoever asked goes away, and the next client is served", async () => {
  const world = new World();
  await using _server = await world.listen(async ({ signal }) => {
    await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    return REPORT;
  });
  const asking = world.ask();
  const request = await world.requests.waitFor("a request", () => true);
  const reason = new Error("stopped by a signal");
  world.stop(reason);
  await assert.rejects(asking, (error) => error === reason);
  await beforeDeadline(
    "the pack's end",
    new Promise<void>((resolve) => {
      if (request.signal.aborted) resolve();
      request.signal.addEventListener("abort", () => resolve());
    }),
  );
  assert.deepEqual(world.log.complaints(), []);
});

Deno.test("a node that follows a file, and a request that is none, are told in words", async () => {
  const world = new World();
  await using _server = await world.listen();
  await assert.rejects(world.ask(), (error: Error) => {
    assert.ok(error instanceof UsageError);
    assert.match(error.message, /only follows it, and another program writes it/);
    return true;
  });
  const handler = packHandler(
    { pack: () => assert.fail() } as Partial<Node> as Node,
    "/data/Data.fs",
    world.host,
  );
  const asker = { gone: new AbortController().signal, tell: () => {} };
  for (const request of [{ gc: "no" }, { keepOld: 1 }, { to: "now" }, { to: 7 }, { keepFor: "long" }]) {
    await assert.rejects(async () => await handler(request, asker), UsageError);
  }
});
