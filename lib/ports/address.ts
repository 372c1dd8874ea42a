/** Addresses as text, and what they tell by themselves. */
import type { Address } from "./network.ts";

/** As the command line takes it: `host:port`, `[v6]:port`, the path of a Unix socket, or `-`. */
export function formatAddress(address: Address): string {
  if (address.transport === "unix") return address.path;
  if (address.transport === "stdio") return "-";
  const host = address.host.replace(/^\[|\]$/g, "");
  return host.includes(":") ? `[${host}]:${address.port}` : `${host}:${address.port}`;
}

/** Whether only processes of this machine can be at the other end. */
export function isThisMachineOnly(address: Address): boolean {
  return address.transport !== "tcp" || isLoopback(address.host);
}

export function isLoopback(host: string): boolean {
  return host.toLowerCase() === "localhost" || /^127(\.\d+){3}$/.test(host) || host === "::1";
}
