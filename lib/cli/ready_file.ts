/**
 * The ready file tells scripts and service managers that a server has opened its file and listens, and where:
 * one JSON object, `{"pid":…,"replicateTo":"127.0.0.1:5000"}`. It appears whole, and goes when the server does.
 */

import { UsageError } from "../errors.ts";
import type { Disk } from "../ports/mod.ts";

export interface ReadyFacts {
  readonly pid: number;
  /** Where secondaries connect: what is really listened on, also where port 0 was asked for. */
  readonly replicateTo?: string;
  /** The path of the control socket. */
  readonly control?: string;
}

/** More is no ready file. */
const MAX_READY_FILE_BYTES = 65_536;

/** No process has this id. */
const NOBODY = 0;

export class ReadyFile implements Disposable {
  readonly #disk: Disk;
  readonly #path: string;
  /** Of the file we wrote. */
  #identity: string | undefined;

  private constructor(disk: Disk, path: string) {
    this.#disk = disk;
    this.#path = path;
  }

  /**
   * Removes what a killed process left at the path, so that nobody takes it for ours. That of a process which
   * still runs stays, until we are ready in its place: we may yet find that it has locked our database.
   * @param isRunning whether there is a process of that id
   * @throws UsageError when something else stands there, DiskError
   */
  static prepare(disk: Disk, path: string, isRunning: (pid: number) => boolean): ReadyFile {
    const found = disk.status(path);
    if (found !== undefined) {
      const pid = found.kind === "file" ? readPid(disk, path, found.size) : undefined;
      if (pid === undefined) {
        throw new UsageError(`Cannot use ${path} as ready file: something else stands there`, {
          path,
          hint: "Name a path that is free",
        });
      }
      if (pid === NOBODY || !isRunning(pid)) disk.remove(path);
    }
    return new ReadyFile(disk, path);
  }

  /** Writes the file in one step. @throws UsageError, DiskError */
  write(facts: ReadyFacts): void {
    // The name is ours as long as we live: whatever a process of the same id left there is worthless.
    const temporary = `${this.#path}.${facts.pid}`;
    this.#disk.remove(temporary);
    using file = this.#disk.create(temporary);
    file.writeAt(new TextEncoder().encode(`${JSON.stringify(facts)}\n`), 0);
    this.#disk.rename(temporary, this.#path);
    this.#identity = file.identity();
  }

  /** Removes the file, unless another process has put its own there. Removing twice is harmless. */
  remove(): void {
    if (this.#identity === undefined) return;
    if (this.#disk.status(this.#path)?.identity === this.#identity) this.#disk.remove(this.#path);
    this.#identity = undefined;
  }

  [Symbol.dispose](): void {
    this.remove();
  }
}

/** The process that wrote a ready file; undefined for any other file. An empty file counts, as mktemp makes it. */
function readPid(disk: Disk, path: string, size: number): number | undefined {
  if (size === 0) return NOBODY;
  if (size > MAX_READY_FILE_BYTES) return undefined;
  using file = disk.openRead(path);
  const bytes = new Uint8Array(size);
  const text = new TextDecoder().decode(bytes.subarray(0, file.readAt(bytes, 0)));
  try {
    const found: unknown = JSON.parse(text);
    if (typeof found !== "object" || found === null || !("pid" in found)) return undefined;
    return Number.isSafeInteger(found.pid) ? Number(found.pid) : undefined;
  } catch {
    return undefined;
  }
}
