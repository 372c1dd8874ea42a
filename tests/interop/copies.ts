/** Copies of every kind of one source: ours over each of the two protocols, and one of zc.zrs. */
import type { Secondary } from "../../lib/replica/mod.ts";
import { type RunningNode, startSecondary } from "../kit/node.ts";
import { ZrsSecondary } from "../kit/peers.ts";

/** Their names, by which a test places their files. */
export const COPIES = ["native", "zrs2", "python"] as const;

export class Copies implements AsyncDisposable {
  readonly native: RunningNode<Secondary>;
  readonly zrs2: RunningNode<Secondary>;
  readonly python: ZrsSecondary;

  constructor(native: RunningNode<Secondary>, zrs2: RunningNode<Secondary>, python: ZrsSecondary) {
    this.native = native;
    this.zrs2 = zrs2;
    this.python = python;
  }

  /** Waits until all of them have a transaction. */
  async waitForTid(tid: string): Promise<void> {
    await this.native.waitForTid(tid);
    await this.zrs2.waitForTid(tid);
    await this.python.waitFor(tid);
  }

  /** Warnings and errors of our own. */
  complaints(): string[] {
    return [...this.native.log.complaints(), ...this.zrs2.log.complaints()];
  }

  /** Ends them in order. */
  async close(): Promise<void> {
    await this.native.stop();
    await this.zrs2.stop();
    await this.python.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.native[Symbol.asyncDispose]();
    await this.zrs2[Symbol.asyncDispose]();
    await this.python[Symbol.asyncDispose]();
  }
}

/**
 * Starts them on one address. Needs the environment zodb55.
 * @param path the file for each name of {@link COPIES}
 */
export async function startCopies(replicateFrom: string, path: (name: string) => string): Promise<Copies> {
  await using owned = new AsyncDisposableStack();
  // Python takes longest to start: the others begin when it does.
  const python = owned.use(
    await ZrsSecondary.start({ path: path("python"), replicateFrom, reconnectDelay: 0.05 }),
  );
  const zrs2 = owned.use(await startSecondary({ path: path("zrs2"), replicateFrom, protocol: "zrs2" }));
  const native = owned.use(
    await startSecondary({ path: path("native"), replicateFrom, protocol: "native" }),
  );
  owned.move();
  return new Copies(native, zrs2, python);
}
