/** Addresses as people write them. */
import type { Address } from "../ports/mod.ts";

export function formatAddress(address: Address): string {
  if (address.transport === "unix") return address.path;
  return address.host.includes(":") ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}
