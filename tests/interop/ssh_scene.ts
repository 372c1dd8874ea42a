/** Two machines between which ssh leads, each with a database: `far.fs` there, and `near.fs` here. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { dataFs, type TransactionDescription } from "../kit/data_fs.ts";
import { ChildProcess, type Ended, endOf, startZrs } from "../kit/process.ts";
import { Sshd, type SshdOptions } from "../kit/sshd.ts";
import { TempDirectory } from "../kit/temp.ts";

/** The command, as from a checkout. */
export const MAIN = fileURLToPath(new URL("../../main.ts", import.meta.url));
export const FIRST_TID = 0x03f5945817777700n;

/** Transactions of one record each. @param size of the smallest, in bytes */
export function history(count: number, name = "shared", size = 0): TransactionDescription[] {
  return Array.from({ length: count }, (_, at) => ({
    tid: FIRST_TID + BigInt(at),
    description: `${name} ${at}`,
    records: [{ oid: BigInt(at % 20), data: `${name} ${at} `.padEnd(size + (at * 7919) % 4000, "x") }],
  }));
}

export const { bytes: BYTES, transactions: TRANSACTIONS } = dataFs(history(300));
export const LAST = (FIRST_TID + 299n).toString(16).padStart(16, "0");
export const HUNDRED = BYTES.subarray(0, TRANSACTIONS[99]!.end);

/** {@link HUNDRED} with another byte in the data of one transaction. */
export function changedAt(transaction: number): Uint8Array {
  const bytes = HUNDRED.slice();
  const at = TRANSACTIONS[transaction]!.records[0]!.end - 1;
  bytes[at] = bytes[at]! ^ 1;
  return bytes;
}

/** What is on the other machine. */
export const THERE = ["zrs", "tools"] as const;
export type There = typeof THERE[number];

/** What the other machine has is {@link BYTES}, and nothing is here, until a test says otherwise. */
export class Scene implements AsyncDisposable {
  readonly far: string;
  readonly near: string;
  readonly source: string;

  private constructor(readonly directory: TempDirectory, readonly sshd: Sshd) {
    this.far = directory.join("far.fs");
    this.near = directory.join("near.fs");
    this.source = sshd.at(this.far);
  }

  static async make(there: There, options: SshdOptions = {}): Promise<Scene> {
    const directory = await TempDirectory.make();
    try {
      const path = there === "zrs" ? installZrs(directory) : undefined;
      const scene = new Scene(
        directory,
        await Sshd.start({ ...(path !== undefined && { path }), ...options }),
      );
      Deno.writeFileSync(scene.far, BYTES);
      return scene;
    } catch (error) {
      await directory[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Starts the command with ssh that leads there. */
  start(...args: string[]): ChildProcess {
    return startZrs(["replica-sync", ...args, "--ssh", this.sshd.ssh]);
  }

  /** Runs it to its end. */
  async run(...args: string[]): Promise<Ended> {
    await using process = this.start(...args);
    return await endOf(process);
  }

  /** Brings the copy here up to date. @returns the object that it writes */
  async sync(...args: string[]) {
    const { code, out, err } = await this.run(this.source, this.near, "--json", ...args);
    assert.equal(code, 0, `${out}${err}`);
    return JSON.parse(out);
  }

  /** Brings the one there up to date from here. @returns the object that it writes */
  async push(...args: string[]) {
    const { code, out, err } = await this.run("--push", this.near, this.source, "--json", ...args);
    assert.equal(code, 0, `${out}${err}`);
    return JSON.parse(out);
  }

  get copied(): Uint8Array {
    return Deno.readFileSync(this.near);
  }

  /** What is here of the copy: its file, and what stands beside it. */
  get beside(): string[] {
    return this.filesOf("near.fs");
  }

  /** A database's file, and what stands beside it. */
  filesOf(name: string): string[] {
    return [...Deno.readDirSync(this.directory.path)].map((each) => each.name)
      .filter((each) => each.startsWith(name)).sort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.sshd[Symbol.asyncDispose]();
    await this.directory[Symbol.asyncDispose]();
  }
}

/** @returns the PATH on which our command is zrs */
export function installZrs(directory: TempDirectory): string {
  Deno.mkdirSync(directory.join("bin"));
  const script = `#!/bin/sh\nexec ${Deno.execPath()} run --allow-all ${MAIN} "$@"\n`;
  Deno.writeTextFileSync(directory.join("bin", "zrs"), script);
  Deno.chmodSync(directory.join("bin", "zrs"), 0o755);
  return `${directory.join("bin")}:/usr/bin:/bin`;
}
