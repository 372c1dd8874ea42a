/**
 * Everything at once, from a seed: commits, undos, held votes and packs by either ZODB, whose process is closed
 * or killed in between, while copies of both kinds and a chain come and go.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import type { EnvironmentName } from "../kit/environments.ts";
import { type RunningNode, startPrimary, startSecondary } from "../kit/node.ts";
import { PeerError } from "../kit/peer.ts";
import { OpenCheck, peerTest, ZodbWriter, ZrsSecondary } from "../kit/peers.ts";
import { TempDirectory } from "../kit/temp.ts";
import { assertCurrentState, assertSameFile } from "./sameness.ts";
import type { Primary, Secondary } from "../../lib/replica/mod.ts";

const key = fc.nat(11).map((number) => `key ${number}`);
const size = fc.oneof(
  { weight: 20, arbitrary: fc.integer({ min: 1, max: 3_000 }) },
  { weight: 1, arbitrary: fc.constant(600_000) },
);
const copy = fc.constantFrom("near", "far", "python");

const step = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.array(fc.tuple(key, size), { minLength: 1, maxLength: 4 })
      .map((objects) => ({ kind: "commit" as const, objects })),
  },
  { weight: 2, arbitrary: key.map((each) => ({ kind: "delete" as const, key: each })) },
  { weight: 4, arbitrary: fc.integer({ min: 1, max: 4 }).map((back) => ({ kind: "undo" as const, back })) },
  {
    weight: 1,
    arbitrary: fc.tuple(fc.integer({ min: 10, max: 300_000 }), fc.boolean())
      .map(([size, finish]) => ({ kind: "hold" as const, size, finish })),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(fc.double({ min: 0, max: 0.999, noNaN: true }), fc.boolean())
      .map(([to, keepOld]) => ({ kind: "pack" as const, to, keepOld })),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(fc.constantFrom("zodb55" as const, "zodb6" as const), fc.boolean())
      .map(([environment, kill]) => ({ kind: "reopen" as const, environment, kill })),
  },
  { weight: 4, arbitrary: copy.map((name) => ({ kind: "start" as const, name })) },
  { weight: 2, arbitrary: copy.map((name) => ({ kind: "stop" as const, name })) },
);

type Step = typeof step extends fc.Arbitrary<infer Each> ? Each : never;

/** A source and its copies: `near` of the source, `far` of `near`, and a real zc.zrs one. */
class Churn implements AsyncDisposable {
  readonly #directory: TempDirectory;
  readonly #primary: RunningNode<Primary>;
  #writer: ZodbWriter;
  #near: RunningNode<Secondary> | undefined;
  #far: RunningNode<Secondary> | undefined;
  #python: ZrsSecondary | undefined;

  private constructor(directory: TempDirectory, writer: ZodbWriter, primary: RunningNode<Primary>) {
    this.#directory = directory;
    this.#writer = writer;
    this.#primary = primary;
  }

  static async begin(directory: TempDirectory): Promise<Churn> {
    const path = directory.join("Data.fs");
    const writer = await ZodbWriter.start("zodb55", { path });
    for (let i = 0; i < 8; i++) await writer.commit([["key 0", 10]]);
    return new Churn(directory, writer, await startPrimary({ path }));
  }

  path(name: string): string {
    return this.#directory.join(`${name}.fs`);
  }

  async take(step: Step): Promise<void> {
    const writer = this.#writer;
    switch (step.kind) {
      case "commit":
        return void await writer.commit(step.objects);
      case "delete":
        return void await writer.commit([[step.key, null]]);
      case "undo":
        return void await writer.undo([step.back]);
      case "hold":
        await writer.hold({ records: [{ oid: "00000000000000ff", size: step.size }] });
        return void await (step.finish ? writer.finishHeld() : writer.abortHeld());
      case "pack": {
        const history = await writer.history();
        const { tid } = history[Math.floor(step.to * history.length)]!;
        return void await writer.pack({ tid, keepOld: step.keepOld });
      }
      case "reopen":
        return await this.#reopen(step.environment, step.kill);
      case "start":
        return await this.#start(step.name);
      case "stop":
        return await this.#stop(step.name);
    }
  }

  /** Has all copies running, and waits until they have all there is. */
  async converge(): Promise<void> {
    for (const name of ["near", "far", "python"]) await this.#start(name);
    const { tid } = await this.#writer.commit([["key 0", "the end"]]);
    await this.#near!.waitForTid(tid);
    await this.#far!.waitForTid(tid);
    await this.#python!.waitFor(tid);
    for (const name of ["far", "near", "python"]) await this.#stop(name);
    await this.#writer.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const name of ["far", "near", "python"]) await this.#stop(name);
    await this.#primary.stop();
    await this.#writer[Symbol.asyncDispose]();
  }

  async #reopen(environment: EnvironmentName, kill: boolean): Promise<void> {
    await (kill ? this.#writer.kill() : this.#writer.close());
    this.#writer = await ZodbWriter.start(environment, { path: this.path("Data") });
  }

  async #start(name: string): Promise<void> {
    const replicateFrom = this.#primary.address;
    const chain = { transport: "unix", path: this.#directory.join("chain") } as const;
    if (name === "near") {
      this.#near ??= await startSecondary({ path: this.path("near"), replicateFrom, replicateTo: chain });
    } else if (name === "far") {
      this.#far ??= await startSecondary({ path: this.path("far"), replicateFrom: chain });
    } else {
      const path = this.path("python");
      this.#python ??= await ZrsSecondary.start({ path, replicateFrom, reconnectDelay: 0.05 });
    }
  }

  async #stop(name: string): Promise<void> {
    if (name === "near") {
      await this.#near?.stop();
      this.#near = undefined;
    } else if (name === "far") {
      await this.#far?.stop();
      this.#far = undefined;
    } else {
      // In order: one that is killed while it votes skips that transaction when it is started again.
      await this.#python?.close();
      this.#python = undefined;
    }
  }
}

for (const seed of [1, 2, 3]) {
  peerTest(
    `copies survive whatever happens to them and their source, seed ${seed}`,
    ["zodb55", "zodb6"],
    async () => {
      const steps = fc.sample(fc.array(step, { minLength: 120, maxLength: 120, size: "max" }), {
        seed,
        numRuns: 1,
      })[0]!;
      await using directory = await TempDirectory.make();
      await using churn = await Churn.begin(directory);
      let refused = 0;
      for (const each of steps) {
        try {
          await churn.take(each);
        } catch (error) {
          if (!(error instanceof PeerError)) throw error; // what ZODB refuses is as good
          refused++;
        }
      }
      assert.ok(refused < steps.length / 2, `${refused} steps were refused`);
      await churn.converge();
      await using zodb = await OpenCheck.start("zodb6");
      for (const name of ["near", "python"]) {
        await assertCurrentState(zodb, churn.path(name), churn.path("Data"));
        assert.equal((await zodb.check(churn.path(name), { transactions: false })).fstest, null);
      }
      await assertSameFile(churn.path("far"), churn.path("near"));
    },
  );
}
