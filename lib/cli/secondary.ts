/** `zrs secondary`: keeps a copy of a database current, and may send it on. */

import { object } from "@optique/core/constructs";
import { commandLine, lineBreak, message, text } from "@optique/core/message";
import { optional, withDefault } from "@optique/core/modifiers";
import { command, constant, option } from "@optique/core/primitives";
import { choice, string } from "@optique/core/valueparser";
import { UsageError } from "../errors.ts";
import type { Host } from "../host/mod.ts";
import { type Address, formatAddress } from "../ports/mod.ts";
import { Secondary } from "../replica/mod.ts";
import { leadsToItself } from "./address.ts";
import {
  blobOptions,
  type BlobsCommand,
  blobsOptions,
  bwlimitOption,
  checkMissingBlobs,
  compressOption,
  controlOption,
  dataFsArgument,
  maxSecondariesOption,
  missingBlobsOption,
  type SendingOptions,
  type ServerOptions,
  serverOptions,
  tlsNameOption,
  usageLine,
} from "./options.ts";
import { serve } from "./server.ts";
import { address, duration, seconds, wholeNumber } from "./values.ts";
import { SOFTWARE } from "./version.ts";

export interface SecondaryCommand extends BlobsCommand, ServerOptions, SendingOptions {
  readonly command: "secondary";
  readonly replicateFrom: Address;
  readonly replicateTo?: Address | undefined;
  readonly missingBlobs?: "fail" | "mark" | undefined;
  readonly protocol: "auto" | "native" | "zrs2";
  /** In seconds. */
  readonly applyDelay: number;
  readonly rewind: "never" | "auto";
  /** In transactions. */
  readonly rewindLimit: number;
  /** In seconds. */
  readonly keepAlive: number;
  /** In seconds. */
  readonly retryMax: number;
  /** What the primary remembers it by. */
  readonly name?: string | undefined;
}

export const secondaryParser = command(
  "secondary",
  object({
    command: constant("secondary"),
    dataFs: dataFsArgument(
      "copy",
      message`The copy, which is made if there is none. Nobody else may write to it.`,
    ),
    replicateFrom: option("--replicate-from", address("connect"), {
      description: message`The primary, or a secondary that sends on what it gets.`,
    }),
    replicateTo: optional(option("--replicate-to", address("listen"), {
      description: message`Listen here for further secondaries, and send on to them what is on disk.`,
    })),
    maxSecondaries: maxSecondariesOption,
    protocol: withDefault(
      option("--protocol", choice(["auto", "native", "zrs2"], { metavar: "NAME" }), {
        description: message`What to speak with the primary: ${text("native")}, which only zrs does, ${
          text("zrs2")
        }, or whichever it speaks.`,
      }),
      "auto" as const,
      { message: message`${text("auto")}` },
    ),
    applyDelay: withDefault(
      option("--apply-delay", duration(), {
        description:
          message`Receive at once, and keep safe beside the copy, but apply to it only what is so old, as in ${
            text("1h")
          }: a mistake at the primary can then be kept out by ${text("zrs promote")}.`,
      }),
      0,
      { message: message`${text("0")}` },
    ),
    rewind: withDefault(
      option("--rewind", choice(["never", "auto"], { metavar: "WHEN" }), {
        description: message`Where the primary refuses the copy as ahead or forked: ${
          text("auto")
        } takes back what the primary lacks, saves it beside the copy, and goes on.`,
      }),
      "never" as const,
      { message: message`${text("never")}` },
    ),
    rewindLimit: withDefault(
      option("--rewind-limit", wholeNumber(), {
        description: message`Take back no more than so many transactions by ${text("--rewind auto")}.`,
      }),
      100,
      { message: message`${text("100")}` },
    ),
    compress: compressOption,
    bwlimit: bwlimitOption,
    ...blobsOptions,
    missingBlobs: missingBlobsOption,
    keepAlive: withDefault(
      option("--keep-alive", seconds(), {
        description: message`How often to tell the primary that we are there.`,
      }),
      30,
      { message: message`${text("30")}` },
    ),
    retryMax: withDefault(
      option("--retry-max", seconds(), {
        description: message`The longest pause before connecting again; the first is a tenth of a second.`,
      }),
      60,
      { message: message`${text("60")}` },
    ),
    name: optional(option("--name", string({ metavar: "NAME" }), {
      description:
        message`What the primary is to remember this copy by, so that a pack there keeps what it needs (default: the machine's name and the copy's path).`,
    })),
    control: controlOption("owned"),
    tlsName: tlsNameOption,
    ...serverOptions,
  }),
  {
    brief: message`Keep a copy of a database current.`,
    description:
      message`Receives every transaction of a primary, of zrs or of zc.zrs, and appends it to DATA_FS. When the primary is away, it waits and connects again.`,
    footer: message`Example:${lineBreak()}  ${
      commandLine("zrs secondary /srv/replica/Data.fs --replicate-from db1.example.com:5000")
    }${lineBreak()}ADDR is host:port, [v6]:port, a port alone (this machine only), or the path of a Unix socket; to listen also :port (all interfaces), and port 0 for a free one, which the ready file names.`,
    usageLine: usageLine(["--replicate-from", "ADDR"]),
  },
);

/** Runs until a signal ends it. @throws ZrsError */
export async function runSecondary(options: SecondaryCommand, host: Host): Promise<void> {
  const { dataFs, replicateFrom, replicateTo, maxSecondaries } = options;
  if (replicateTo !== undefined && leadsToItself(replicateFrom, replicateTo)) {
    throw new UsageError(`Cannot replicate from ${formatAddress(replicateFrom)}: that is where we listen`, {
      hint: "Give the primary's address for --replicate-from, and our own for --replicate-to",
    });
  }
  if (options.rewind === "auto" && options.protocol === "zrs2") {
    throw new UsageError("Cannot rewind by zrs2: it does not tell what two histories have in common", {
      hint: "Give one of --rewind auto and --protocol zrs2",
    });
  }
  if (options.authFile !== undefined && options.protocol === "zrs2") {
    throw new UsageError("Cannot use --auth-file with --protocol zrs2: that protocol knows no secrets", {
      hint: "Leave out one of them",
    });
  }
  const blobs = blobOptions(options);
  checkMissingBlobs(options.missingBlobs, blobs);
  await serve("zrs secondary", options, host, "owned", (ports, signal, secret) => {
    return Secondary.open(ports, {
      path: dataFs,
      replicateFrom,
      ...(replicateTo !== undefined && { replicateTo }),
      ...blobs,
      missingBlobs: options.missingBlobs,
      maxSecondaries,
      protocol: options.protocol,
      applyDelayMs: options.applyDelay * 1000,
      rewindLimit: options.rewind === "auto" ? options.rewindLimit : 0,
      compress: options.compress,
      bytesPerSecond: options.bwlimit,
      secret,
      software: SOFTWARE,
      name: options.name ?? `${host.name}:${host.disk.realPath(dataFs)}`,
      remember: true,
      keepAliveMs: options.keepAlive * 1000,
      retryMaxMs: options.retryMax * 1000,
      signal,
    });
  });
}
