/**
 * Addresses as people write them on the command line. Whoever mistypes one is told what is accepted, before
 * anything is opened. Writing them is `formatAddress` of the ports.
 */

import { UsageError } from "../errors.ts";
import { type Address, isLoopback } from "../ports/mod.ts";

/** Whether we wait at the address for others, or go there. */
export type AddressUse = "listen" | "connect";

/** A port alone means this machine only. */
const LOOPBACK = "127.0.0.1";

/** A port after a bare colon means every interface, in both versions of IP. */
const ALL_INTERFACES = "::";

/** What the system takes as the path of a Unix socket, its closing zero byte left out. */
const MAX_SOCKET_PATH_BYTES = 107;

const ACCEPTED: Readonly<Record<AddressUse, string>> = {
  listen: "Write host:port, [v6]:port, :port for all interfaces, a port alone for this machine only, " +
    "or the path of a Unix socket, with a /",
  connect: "Write host:port, [v6]:port, a port alone for this machine, " +
    "or the path of a Unix socket, with a /",
};

/**
 * Reads `host:port`, `[v6]:port`, `:port`, `port`, or a path with a `/`.
 * @throws UsageError that says what is wrong, and with what is accepted as its hint
 */
export function parseAddress(text: string, use: AddressUse): Address {
  const found = readAddress(text, use);
  if (typeof found !== "string") return found;
  throw new UsageError(`Cannot read address ${JSON.stringify(text)}: ${found}`, { hint: ACCEPTED[use] });
}

/** As {@link parseAddress}. @returns the address, or what is wrong with the text */
export function readAddress(text: string, use: AddressUse): Address | string {
  return text.includes("/") ? readPath(text) : readHostAndPort(text, use);
}

/** Whether a connection to `to` arrives at our own listener `at`, as far as the addresses tell. */
export function leadsToItself(to: Address, at: Address): boolean {
  if (to.transport === "stdio") return false;
  if (to.transport === "unix") return at.transport === "unix" && to.path === at.path;
  if (at.transport !== "tcp" || to.port !== at.port) return false;
  const host = to.host.toLowerCase();
  return host === at.host.toLowerCase() || (isLoopback(host) && (isLoopback(at.host) || isAny(at.host)));
}

/** @returns the address, or what is wrong with the text */
function readPath(path: string): Address | string {
  if (path.includes("://")) return "it is a URL";
  if (path.endsWith("/")) return "the path of a socket does not end in a /";
  const length = new TextEncoder().encode(path).length;
  if (length > MAX_SOCKET_PATH_BYTES) {
    return `the path of a socket has at most ${MAX_SOCKET_PATH_BYTES} bytes, this one has ${length}`;
  }
  return { transport: "unix", path };
}

function readHostAndPort(text: string, use: AddressUse): Address | string {
  const { host, port } = /^(?:(?<host>.*):)?(?<port>[^:]*)$/s.exec(text)!.groups!;
  if (host === undefined && !/^\d+$/.test(text)) return text === "" ? "it is empty" : "it has no port";
  const wrongHost = host === undefined ? undefined : wrongInHost(host, port!, use);
  if (wrongHost !== undefined) return wrongHost;
  if (!/^\d+$/.test(port!) || Number(port) > 65535) {
    return `the port must be a number from 0 to 65535, and is ${JSON.stringify(port)}`;
  }
  if (use === "connect" && Number(port) === 0) return "nobody listens on port 0";
  const name = host === undefined ? LOOPBACK : host === "" ? ALL_INTERFACES : host.replace(/^\[|\]$/g, "");
  return { transport: "tcp", host: name, port: Number(port) };
}

function wrongInHost(host: string, port: string, use: AddressUse): string | undefined {
  if (host === "") return use === "connect" ? "it names no host to connect to" : undefined;
  const bracketed = /^\[(.*)\]$/s.exec(host)?.[1];
  if (bracketed !== undefined) {
    return isIpv6(bracketed) ? undefined : `${JSON.stringify(bracketed)} is no address of IP version 6`;
  }
  // All of "::1:5000" may be an address too: only brackets tell.
  if (isIpv6(host) || isIpv6(`${host}:${port}`)) {
    return "an address of IP version 6 needs brackets, and a port";
  }
  if (/^[\d.]+$/.test(host)) return isIpv4(host) ? undefined : `${host} is no address of IP version 4`;
  if (!/^[a-z0-9_]([a-z0-9_.-]*[a-z0-9_.])?$/i.test(host)) return `${JSON.stringify(host)} is no host's name`;
  return undefined;
}

function isIpv4(host: string): boolean {
  const parts = host.split(".");
  return parts.length === 4 && parts.every((part) => /^\d{1,3}$/.test(part) && Number(part) <= 255);
}

/** A zone, as in fe80::1%eth0, is the system's to judge. */
function isIpv6(host: string): boolean {
  const address = host.replace(/%[\w.-]+$/, "");
  return address.includes(":") && URL.canParse(`http://[${address}]/`);
}

function isAny(host: string): boolean {
  return host === ALL_INTERFACES || host === "0.0.0.0";
}
