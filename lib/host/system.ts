/** The machine and process we run in, put together. */

import { HostProcesses } from "./child_process.ts";
import { HostClock } from "./clock.ts";
import { HostDisk } from "./disk.ts";
import type { Host, OutputStream, Signal } from "./host.ts";
import { systemLog } from "./log.ts";
import { HostNetwork } from "./network.ts";
import { STDOUT, writeTalk, writeText } from "./output.ts";
import { exit, isRunning, onUncaught } from "./process.ts";
import { ask } from "./question.ts";
import { HostRandom } from "./random.ts";
import { notifySystemd } from "./systemd.ts";
import { TlsNetwork } from "./tls_network.ts";

/** The real host. Asking for it does no I/O. */
export function systemHost(): Host {
  const network = new HostNetwork();
  const clock = new HostClock();
  return {
    disk: new HostDisk(),
    network,
    openSecureNetwork: (options) => TlsNetwork.open(network, clock, options),
    clock,
    random: new HostRandom(),
    processes: new HostProcesses(),
    pid: Deno.pid,
    name: Deno.hostname(),
    out: (text) => writeText(STDOUT, "standard output", text),
    err: writeTalk,
    ask,
    isTerminal,
    columns,
    env: (name) => Deno.env.get(name),
    onSignal,
    onUncaught,
    exit,
    isRunning,
    async notifySystemd(state) {
      const socket = Deno.env.get("NOTIFY_SOCKET");
      if (socket) await notifySystemd(socket, state);
    },
    openLog: systemLog,
  };
}

function isTerminal(stream: OutputStream): boolean {
  return (stream === "out" ? Deno.stdout : Deno.stderr).isTerminal();
}

function columns(): number | undefined {
  try {
    return Deno.consoleSize().columns;
  } catch {
    return undefined; // no terminal
  }
}

function onSignal(signal: Signal, callback: () => void): Disposable {
  Deno.addSignalListener(signal, callback);
  return { [Symbol.dispose]: () => Deno.removeSignalListener(signal, callback) };
}
