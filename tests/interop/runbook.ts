/**
 * The commands of a runbook (docs/promotion.md), run as they stand there on machines that are directories: names,
 * ports and paths become those of this machine, and nothing else is changed.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { ChildProcess, type Ended, endOf, freePort } from "../kit/process.ts";

const PROJECT = fileURLToPath(new URL("../../", import.meta.url));

/** Where every machine of the runbook has its database. */
const SRV = "/srv/zodb";

/** A command line, and the machine on which to enter it. */
interface Line {
  readonly machine: string;
  readonly command: string;
}

/** The lines `machine$ command` of a document, and which of them have been run. */
export class Runbook {
  /** The configuration of a ZEO server that it shows. */
  readonly zeoConfiguration: string;
  readonly #lines: readonly Line[];
  readonly #run = new Set<string>();

  private constructor(lines: readonly Line[], zeoConfiguration: string) {
    this.#lines = lines;
    this.zeoConfiguration = zeoConfiguration;
  }

  /** @param path from the project's directory on */
  static read(path: string): Runbook {
    const text = Deno.readTextFileSync(join(PROJECT, path));
    const lines = [...text.matchAll(/^ *(db\d)\$ (.+)$/gm)].map(([, machine, command]) => ({
      machine: machine!,
      command: command!,
    }));
    assert(lines.length > 0, `${path} has commands`);
    const [zeoConfiguration] = /^<zeo>\n.*?^<\/filestorage>\n/ms.exec(text) ?? [];
    assert(zeoConfiguration !== undefined, `${path} has a configuration of ZEO`);
    return new Runbook(lines, zeoConfiguration);
  }

  /** The one line of a machine that begins so, and ends so if that is asked for. */
  take(machine: string, beginning: string, ending = ""): string {
    const found = new Set(
      this.#lines.filter((line) => line.machine === machine)
        .map(({ command }) => command)
        .filter((command) => command.startsWith(beginning) && command.endsWith(ending)),
    );
    assert.equal(found.size, 1, `The runbook has one line "${machine}$ ${beginning}…${ending}"`);
    const [command] = [...found] as [string];
    this.#run.add(`${machine}$ ${command}`);
    return command;
  }

  /** Lines that nobody has run. */
  get left(): string[] {
    return this.#lines.map(({ machine, command }) => `${machine}$ ${command}`)
      .filter((line) => !this.#run.has(line));
  }
}

/** The machines of a runbook, and the way from one to the other. */
export class Machines {
  readonly #directory: string;
  readonly #bin: string;
  readonly #ports = new Map<string, number>();
  /** Of the ZEO servers, where there are blobs. */
  readonly #zeoConfiguration: string | undefined;

  /**
   * @param interpreter Python's, with ZEO
   * @param zeoConfiguration where there are blobs: what the ZEO servers are started by
   */
  constructor(directory: string, interpreter: string, zeoConfiguration: string | undefined) {
    this.#directory = directory;
    this.#zeoConfiguration = zeoConfiguration;
    this.#bin = join(directory, "bin");
    Deno.mkdirSync(this.#bin);
    const runzeo = `${interpreter}" -B -X utf8 "${PROJECT}tests/kit/python/runzeo.py`;
    this.#install("runzeo", `exec "${runzeo}" "$@"`);
    this.#install("zrs", `exec "${Deno.execPath()}" run --allow-all "${PROJECT}main.ts" "$@"`);
    for (const name of ["db1", "db2", "db3"]) Deno.mkdirSync(join(directory, name));
  }

  #install(name: string, line: string): void {
    Deno.writeTextFileSync(join(this.#bin, name), `#!/bin/sh\n${line}\n`, { mode: 0o755 });
  }

  /** A machine's database. */
  database(machine: string): string {
    return join(this.#directory, machine, "Data.fs");
  }

  /** Where a machine's blobs lie, if there are any. */
  blobs(machine: string): string | undefined {
    return this.#zeoConfiguration === undefined ? undefined : join(this.place(machine), "blobs");
  }

  /** The directory that holds it. */
  place(machine: string): string {
    return join(this.#directory, machine);
  }

  /** Where a port of a machine is reached. */
  address(machine: string, port: number): string {
    const key = `${machine}:${port}`;
    const known = this.#ports.get(key) ?? freePort();
    this.#ports.set(key, known);
    return `127.0.0.1:${known}`;
  }

  /** Starts a command that stays, such as a server. */
  start(machine: string, ...commands: string[]): ChildProcess {
    const here = commands.map((command) => this.#translate(machine, this.#withBlobs(machine, command)));
    const program = here.length === 1 ? `exec ${here[0]}` : `${here.join(" & ")} & wait`;
    return ChildProcess.start("/bin/sh", ["-c", program], { env: this.#environment, ownGroup: true });
  }

  /** Runs a command to its end. */
  async run(machine: string, command: string): Promise<Ended> {
    await using process = this.start(machine, command);
    return await endOf(process);
  }

  get #environment(): Record<string, string> {
    return { PATH: `${this.#bin}:${Deno.env.get("PATH")}` };
  }

  /** What the runbook says of databases with blobs. */
  #withBlobs(machine: string, command: string): string {
    if (this.#zeoConfiguration === undefined) return command;
    if (/^zrs (primary|secondary|replica-sync) /.test(command)) return `${command} --blob-dir ${SRV}/blobs`;
    if (!command.startsWith("runzeo ")) return command;
    const configuration = this.#translate(machine, this.#zeoConfiguration);
    Deno.writeTextFileSync(join(this.place(machine), "zeo.conf"), configuration);
    return `runzeo -C ${SRV}/zeo.conf`;
  }

  #translate(machine: string, command: string): string {
    return command
      .replaceAll(/(db\d)\.example\.com:(\d+)/g, (_, other, port) => this.address(other, Number(port)))
      .replaceAll(/ :(\d+)/g, (_, port) => ` ${this.address(machine, Number(port))}`)
      .replaceAll(SRV, this.place(machine));
  }
}
