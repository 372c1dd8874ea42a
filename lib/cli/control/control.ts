/** The control socket that a node gets: where it listens, and what can be asked there. */
import { UsageError, ZrsError } from "../../errors.ts";
import type { Host } from "../../host/mod.ts";
import { formatAddress, type Log } from "../../ports/mod.ts";
import { formatTid, parseTid } from "../../zodb/mod.ts";
import { controlPathOf } from "./control_place.ts";
import type { Handlers, JsonObject } from "./control_protocol.ts";
import { ControlServer } from "./control_server.ts";
import type { ServerOptions } from "../options.ts";
import { packHandler } from "../pack/pack_request.ts";
import type { Node } from "../server.ts";
import { toAnswer } from "../status/status_answer.ts";

/** Whether the node alone writes to its file, or follows one that belongs to others. */
export type FileUse = "owned" | "followed";

/**
 * Listens where `--control` says, else beside the file, if that is the node's own. The replication is worth more
 * than being asked: a place beside the file where nothing can listen is told, and done without.
 * @returns undefined when there is no control socket
 * @throws UsageError, DiskError when nothing can listen where `--control` says
 */
export async function openControl(
  node: Node,
  use: FileUse,
  options: ServerOptions,
  host: Host,
  log: Log,
): Promise<ControlServer | undefined> {
  if (options.control === undefined && use === "followed") return undefined;
  const { network, clock } = host;
  try {
    const path = options.control ?? controlPathOf(host.disk.realPath(options.dataFs));
    return await ControlServer.listen({ network, clock, log }, path, handlersFor(node, options, host));
  } catch (error) {
    if (options.control !== undefined || !(error instanceof ZrsError)) throw error;
    log.warning(`${error.message}; going on without a control socket, so zrs status cannot ask this node`, {
      hint: "--control PATH names another place for it",
    });
    return undefined;
  }
}

function handlersFor(node: Node, { dataFs }: ServerOptions, host: Host): Handlers {
  const sinceMs = host.clock.now();
  const path = host.disk.realPath(dataFs);
  return {
    status() {
      const { address } = node;
      const replicateTo = address === undefined ? undefined : formatAddress(address);
      return {
        ...toAnswer(node.status(), { pid: host.pid, sinceMs, nowMs: host.clock.now(), path, replicateTo }),
      };
    },
    pack: packHandler(node, path, host),
    ...(node.promote !== undefined && {
      promote: async (request: JsonObject) => {
        const { lastTid, applied, kept, savedTo } = await node.promote!(beforeOf(request));
        return {
          lastTid: formatTid(lastTid),
          applied,
          kept,
          savedTo: savedTo === undefined ? null : host.disk.realPath(savedTo),
        };
      },
    }),
  };
}

/** @throws UsageError */
function beforeOf({ before }: JsonObject): bigint | undefined {
  if (before === undefined || before === null) return undefined;
  if (typeof before === "string" && /^[0-9a-f]{16}$/.test(before)) return parseTid(before);
  throw new UsageError("Cannot promote: the field before must be a tid, 16 hexadecimal digits");
}
