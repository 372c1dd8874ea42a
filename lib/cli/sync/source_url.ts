/**
 * A running node as a source, as people write it where a path could stand as well: `zrs://host:port`, or
 * `zrs+unix:path` for a Unix socket.
 */

import { UsageError } from "../../errors.ts";
import { type Address, formatAddress } from "../../ports/mod.ts";
import { readAddress } from "../address.ts";

const ACCEPTED = "Write zrs://host:port, zrs://[v6]:port, or zrs+unix:PATH for a Unix socket; " +
  "a file of such a name is ./zrs:…";

/** Whether a text names a running node rather than a file. */
export function isSourceUrl(text: string): boolean {
  return /^zrs(\+\w*)?:/i.test(text);
}

/**
 * Reads `zrs://host:port`, `zrs://[v6]:port` (one slash may follow), or `zrs+unix:path`.
 * @throws UsageError that says what is wrong, and with what is accepted as its hint
 */
export function parseSourceUrl(text: string): Address {
  const [, scheme, rest] = /^(zrs|zrs\+unix):(.*)$/is.exec(text) ?? [];
  if (scheme === undefined || rest === undefined) {
    throw unreadable(text, "its scheme must be zrs or zrs+unix");
  }
  if (scheme.toLowerCase() === "zrs") return readHostAndPort(text, rest);
  const path = rest.startsWith("///") ? rest.slice(2) : rest;
  if (path === "") throw unreadable(text, "it names no socket");
  if (path.startsWith("//")) throw unreadable(text, "a socket has no host");
  return readPlace(text, path.includes("/") ? path : `./${path}`);
}

/** The inverse of {@link parseSourceUrl}. */
export function formatSourceUrl(address: Address): string {
  const text = formatAddress(address);
  return address.transport === "unix" ? `zrs+unix:${text}` : `zrs://${text}`;
}

function readHostAndPort(text: string, rest: string): Address {
  const [, authority] = /^\/\/([^/?#]*)\/?$/s.exec(rest) ?? [];
  if (authority === undefined) {
    throw unreadable(text, rest.startsWith("//") ? "nothing may follow the port" : "// must follow zrs:");
  }
  if (authority.includes("@")) throw unreadable(text, "there are no users");
  if (!authority.includes(":")) throw unreadable(text, "it has no port");
  return readPlace(text, authority);
}

function readPlace(text: string, place: string): Address {
  const found = readAddress(place, "connect");
  if (typeof found === "string") throw unreadable(text, found);
  return found;
}

function unreadable(text: string, problem: string): UsageError {
  return new UsageError(`Cannot read source ${JSON.stringify(text)}: ${problem}`, { hint: ACCEPTED });
}
