/** A secondary of whoever holds its standard input and output, which ends when it has all: `- DATA_FS`. */
import { systemHost } from "../../lib/host/mod.ts";
import { startSecondary } from "./node.ts";

const path = Deno.args[Deno.args.indexOf("-") + 1]!;
const { network } = systemHost();
const secondary = await startSecondary(
  { path, replicateFrom: "-:0", protocol: "native" },
  { network: { ...network, connect: () => network.connect({ transport: "stdio" }) } },
);
await secondary.log.waitFor(/has all that the source has/);
await secondary.stop();
Deno.exit(0);
