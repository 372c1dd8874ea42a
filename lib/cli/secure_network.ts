/** The network for a command that only connects to others, encrypted where it is to be. */

import type { Host } from "../host/mod.ts";
import type { Network } from "../ports/mod.ts";
import { tlsFiles, type TlsOptions } from "./options.ts";

/** @throws UsageError about the files, DiskError */
export async function networkFor(tls: TlsOptions, host: Host): Promise<Network> {
  const files = tlsFiles(tls);
  if (files === undefined) return host.network;
  const network = await host.openSecureNetwork({
    ...files,
    ...(tls.tlsName !== undefined && { name: tls.tlsName }),
    onRefused: () => {}, // nobody connects to us
  });
  for (const warning of network.warnings) host.err(`${warning}\n`);
  return network;
}
