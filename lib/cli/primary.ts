/** `zrs primary`: follows a database beside whoever writes it, and sends it to its secondaries. */

import { object } from "@optique/core/constructs";
import { commandLine, lineBreak, message, text } from "@optique/core/message";
import { command, constant, option } from "@optique/core/primitives";
import type { Host } from "../host/mod.ts";
import type { Address } from "../ports/mod.ts";
import { Primary } from "../replica/mod.ts";
import {
  blobOptions,
  type BlobsCommand,
  blobsOptions,
  bwlimitOption,
  compressOption,
  controlOption,
  dataFsArgument,
  maxSecondariesOption,
  type SendingOptions,
  type ServerOptions,
  serverOptions,
  toggle,
  usageLine,
} from "./options.ts";
import { serve } from "./server.ts";
import { addressOrStdio } from "./values.ts";
import { SOFTWARE } from "./version.ts";

export interface PrimaryCommand extends BlobsCommand, ServerOptions, SendingOptions {
  readonly command: "primary";
  readonly replicateTo: Address;
  /** Write beside the database how far secondaries are. */
  readonly remember: boolean;
}

export const primaryParser = command(
  "primary",
  object({
    command: constant("primary"),
    dataFs: dataFsArgument(
      "database",
      message`The database to follow, such as /srv/zope/var/Data.fs. It is only ever read.`,
    ),
    replicateTo: option("--replicate-to", addressOrStdio(), {
      description: message`Listen here for secondaries; ${
        text("-")
      } serves the one on standard input and output.`,
    }),
    ...blobsOptions,
    maxSecondaries: maxSecondariesOption,
    remember: toggle(
      "--remember",
      message`Write to DATA_FS.secondaries how far secondaries are, so that ${
        text("zrs pack")
      } keeps what they need. Nothing else is ever written there.`,
    ),
    compress: compressOption,
    bwlimit: bwlimitOption,
    control: controlOption("followed"),
    ...serverOptions,
  }),
  {
    brief: message`Follow a database and send it to secondaries.`,
    description:
      message`Follows DATA_FS, read-only and beside whoever writes it, and sends every transaction to any number of secondaries: of zrs, or of zc.zrs.`,
    footer: message`Example:${lineBreak()}  ${
      commandLine("zrs primary /srv/zope/var/Data.fs --replicate-to :5000")
    }${lineBreak()}ADDR is host:port, [v6]:port, :port (all interfaces), a port alone (this machine only), or the path of a Unix socket. Port 0 picks a free one, which the ready file names.`,
    usageLine: usageLine(["--replicate-to", "ADDR"]),
  },
);

/** Runs until a signal ends it. @throws ZrsError */
export async function runPrimary(options: PrimaryCommand, host: Host): Promise<void> {
  const { dataFs, replicateTo, maxSecondaries, compress } = options;
  const blobs = blobOptions(options);
  await serve("zrs primary", options, host, "followed", (ports, _signal, secret) => {
    return Primary.open(ports, {
      path: dataFs,
      replicateTo,
      ...blobs,
      maxSecondaries,
      compress,
      bytesPerSecond: options.bwlimit,
      secret,
      software: SOFTWARE,
      remember: options.remember,
    });
  });
}
