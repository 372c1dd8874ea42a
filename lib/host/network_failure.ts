/** What the network said, in words. */

import { codeOf, wordsOf } from "./failure.ts";

const WORDS: Readonly<Record<string, string>> = {
  ECONNREFUSED: "connection refused",
  ECONNRESET: "the connection was reset by the other end",
  ECONNABORTED: "the connection was aborted",
  EPIPE: "the other end has closed the connection",
  ETIMEDOUT: "timed out",
  EHOSTUNREACH: "no route to the host",
  ENETUNREACH: "no route to the network",
  ENETDOWN: "the network is down",
  EADDRINUSE: "the address is in use",
  EADDRNOTAVAIL: "it is not an address of this machine",
  EAFNOSUPPORT: "this machine has no such kind of address",
  EACCES: "permission denied",
  EPERM: "permission denied",
  ENOENT: "there is no such file or directory",
  ENOTDIR: "part of the path is not a directory",
  EMFILE: "this process has too many files open",
  ENFILE: "the system has too many files open",
};

export const TOO_LONG_PATH = "the path is too long for a Unix socket";

/** Why a call on a socket failed. */
export function networkWords(error: unknown): string {
  const words = WORDS[codeOf(error)];
  if (words !== undefined) return words;
  if (isUnknownHost(error)) return "unknown host";
  if (error instanceof Deno.errors.NotCapable) return "permission denied";
  if (isTooLongPath(error)) return TOO_LONG_PATH;
  return wordsOf(error);
}

/** Why an attempt was ended by its signal: words may be the reason that was given. */
export function abortWords({ reason }: AbortSignal): string {
  if (typeof reason === "string") return reason;
  const timedOut = reason instanceof DOMException && reason.name === "TimeoutError";
  return timedOut ? "timed out" : "the attempt was given up";
}

/** The runtime gives a failed name look-up neither class nor code. */
function isUnknownHost(error: unknown): boolean {
  return error instanceof Error && error.message.includes("lookup address");
}

/** An address that no socket can have, wherever it leads: a port beyond 65535, a path too long. */
export function isImpossible(error: unknown): boolean {
  return error instanceof RangeError || isTooLongPath(error);
}

function isTooLongPath(error: unknown): boolean {
  return error instanceof Error && error.message.includes("SUN_LEN");
}
