/** `--auth-file`: the secret that nodes prove to each other to have, read at start and again at SIGHUP. */

import { UsageError } from "../errors.ts";
import type { Disk } from "../ports/mod.ts";
import type { Secret } from "../replica/mod.ts";

const LEAST_SECRET_BYTES = 16;
/** The first line is looked for in so many bytes. */
const MOST_SECRET_BYTES = 4096;
const READABLE_BY_OTHERS = 0o044;

export class AuthFile implements Secret {
  readonly #disk: Disk;
  readonly #path: string;
  #bytes: Uint8Array;

  private constructor(disk: Disk, path: string) {
    this.#disk = disk;
    this.#path = path;
    this.#bytes = readSecret(disk, path);
  }

  /** @throws UsageError that names the file, DiskError */
  static open(disk: Disk, path: string): AuthFile {
    return new AuthFile(disk, path);
  }

  /** The secret as it was read last. */
  get bytes(): Uint8Array {
    return this.#bytes;
  }

  /** What is not as it should be, but does not hinder. */
  get warnings(): string[] {
    const mode = this.#disk.status(this.#path)?.mode ?? 0;
    return (mode & READABLE_BY_OTHERS) === 0
      ? []
      : [`${this.#path} can be read by others than its owner: chmod 600 it`];
  }

  /** Reads the file anew. @throws UsageError, DiskError when it cannot be used; the secret in use stays */
  reload(): void {
    this.#bytes = readSecret(this.#disk, this.#path);
  }
}

function readSecret(disk: Disk, path: string): Uint8Array {
  const content = new Uint8Array(MOST_SECRET_BYTES);
  using file = disk.openRead(path);
  const length = file.readAt(content, 0);
  const end = content.subarray(0, length).indexOf(0x0a);
  if (end < 0 && length === MOST_SECRET_BYTES) {
    throw unusable(path, `its first line must have less than ${MOST_SECRET_BYTES} bytes, and has more`);
  }
  const secret = trimmed(path, content.subarray(0, end < 0 ? length : end));
  if (secret.length >= LEAST_SECRET_BYTES) return secret;
  const found = secret.length === 0 ? "is empty" : `has ${secret.length}`;
  throw unusable(path, `its first line must have at least ${LEAST_SECRET_BYTES} bytes, and ${found}`);
}

function trimmed(path: string, line: Uint8Array): Uint8Array {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(line);
    return new TextEncoder().encode(text.trim());
  } catch (cause) {
    throw unusable(path, "its first line must be text, and is not UTF-8", cause);
  }
}

function unusable(path: string, why: string, cause?: unknown): UsageError {
  return new UsageError(`Cannot use ${path} as the secret: ${why}`, {
    path,
    cause,
    hint: `Make one with: openssl rand -hex 32 > ${path}`,
  });
}
