/**
 * Listening on a Unix socket's path. A process that was killed leaves its socket file behind: such a one is
 * recognised by that nobody answers, and replaced. Whatever is not a socket is never removed.
 *
 * The socket is made under a name of its own and renamed to its path. So the path leads to the old socket or
 * to a listening one, never to nothing; and the runtime, which at close removes whatever stands at the path it
 * bound, finds nothing there that could have come from another process since.
 *
 * Connecting needs write permission on the file. Its mode is the one asked for, or what the process's umask
 * leaves of 0777.
 */

import fs from "node:fs";
import { dirname, join } from "node:path";
import { UsageError, ZrsError } from "../errors.ts";
import { codeOf, diskFailure } from "./failure.ts";
import { TOO_LONG_PATH } from "./network_failure.ts";

/** What an address has room for, besides a closing zero byte, on Linux; elsewhere the system has the last word. */
const MAX_PATH_BYTES = 107;

export interface BoundSocket {
  readonly listener: Deno.Listener;
  /** Removes the socket's file, unless another process has put its own there. */
  readonly release: () => void;
}

/**
 * @param mode permission bits
 * @throws UsageError (in use, not a socket, no permission, path too long), NotFoundError (no directory)
 */
export async function bindUnixSocket(path: string, mode?: number): Promise<BoundSocket> {
  const action = `Cannot listen on ${path}`;
  let listener: Deno.UnixListener | undefined;
  try {
    // The name that is bound is short: the path itself must be checked, for those who will connect to it.
    if (new TextEncoder().encode(path).length > MAX_PATH_BYTES) throw tooLong(path, action);
    await checkReplaceable(path, action);
    const temporary = join(dirname(path), `.${crypto.randomUUID().slice(0, 8)}`);
    listener = listenWith(mode, temporary);
    const identity = identityOf(temporary);
    fs.renameSync(temporary, path);
    return { listener, release: () => removeOwn(path, identity) };
  } catch (cause) {
    listener?.close();
    if (cause instanceof ZrsError) throw cause;
    throw codeOf(cause) === "EINVAL" ? tooLong(path, action) : diskFailure(action, path, cause);
  }
}

/**
 * A mode that were set after binding would come too late for whoever connects in between. The umask is the whole
 * process's, but everything here that makes files does so on this thread, and not before this returns.
 */
function listenWith(mode: number | undefined, path: string): Deno.UnixListener {
  const before = mode === undefined ? undefined : Deno.umask(0o777 & ~mode);
  try {
    return Deno.listen({ transport: "unix", path });
  } finally {
    if (before !== undefined) Deno.umask(before);
  }
}

/** Returns when the path is free, or holds a socket on which nobody listens. */
async function checkReplaceable(path: string, action: string): Promise<void> {
  const found = fs.lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) {
    const hint = "Name a path that is free";
    throw new UsageError(`${action}: there is a file that is not a socket`, { path, hint });
  }
  try {
    (await Deno.connect({ transport: "unix", path })).close();
  } catch (cause) {
    const code = codeOf(cause);
    if (code === "ECONNREFUSED" || code === "ENOENT") return;
    throw diskFailure(action, path, cause);
  }
  const hint = "Stop the process that listens there, or name another path";
  throw new UsageError(`${action}: the address is in use`, { path, hint });
}

function tooLong(path: string, action: string): UsageError {
  return new UsageError(`${action}: ${TOO_LONG_PATH}`, {
    path,
    hint: `Use a path of at most ${MAX_PATH_BYTES} bytes`,
  });
}

function removeOwn(path: string, identity: string | undefined): void {
  try {
    if (identityOf(path) === identity) fs.unlinkSync(path);
  } catch {
    // It stays; the next process to listen there will find that nobody answers.
  }
}

function identityOf(path: string): string | undefined {
  const found = fs.lstatSync(path, { bigint: true, throwIfNoEntry: false });
  return found && `${found.dev}:${found.ino}`;
}
