/**
 * The life of a server command around the node that does the work: its log, its signals, its ready file, its
 * control socket, what the service manager is told, and an end in good order. A failure is thrown, and has been logged.
 */

import { ZrsError } from "../errors.ts";
import type { Host, SecureNetwork, Signal, SystemLog, TlsFiles } from "../host/mod.ts";
import { type Address, type Disk, formatAddress, isThisMachineOnly, type Log } from "../ports/mod.ts";
import type { PackReport } from "../filestorage/mod.ts";
import {
  type NodeStatus,
  type PackRequest,
  type Ports,
  type Promotion,
  RepeatedLog,
  type Secret,
} from "../replica/mod.ts";
import { AuthFile } from "./auth_file.ts";
import { type FileUse, openControl } from "./control/control.ts";
import { EXIT, type ExitCode, originOf } from "./exit_codes.ts";
import { formatFailure, withHint } from "./failure.ts";
import { checkOutputs, logOptions, type ServerOptions, tlsFiles } from "./options.ts";
import { ReadyFile } from "./ready_file.ts";

/** What a server command runs: it has opened its files and listens. */
export interface Node extends AsyncDisposable {
  /** Where secondaries connect, if they can: the port that was really taken. */
  readonly address: Address | undefined;
  /** Works until the signal is aborted, then closes cleanly; rejects for what cannot be survived. */
  run(signal: AbortSignal): Promise<void>;
  /** How it is at this moment. */
  status(): NodeStatus;
  /** Packs its file while it goes on; undefined where the file is not its own. */
  pack?(request: PackRequest): Promise<PackReport>;
  /**
   * Makes the file ready for whoever takes it over, and ends {@link run}; undefined where that is not the node's to do.
   * @param before only what has an earlier tid is applied; undefined for all
   * @throws UsageError where that cannot be: all goes on as before
   */
  promote?(before: bigint | undefined): Promise<Promotion>;
}

const STOP_SIGNALS: readonly (readonly [Signal, ExitCode])[] = [
  ["SIGTERM", EXIT.terminated],
  ["SIGINT", EXIT.interrupted],
];

const REOPEN_SIGNALS: readonly Signal[] = ["SIGHUP", "SIGUSR2"];

const RELOAD_SIGNAL: Signal = "SIGHUP";

const OPEN_WARNING =
  "Whoever can connect to this address gets the whole database: let a firewall decide who can, " +
  "or give --auth-file or --tls-cert";
const UNENCRYPTED_WARNING =
  "Whoever can listen on the network reads the whole database along: --auth-file encrypts " +
  "nothing; give --tls-cert where that matters";

/** @param secret what the node must prove to others, and others to it */
export type Opening = (ports: Ports, signal: AbortSignal, secret: Secret | undefined) => Promise<Node>;

/**
 * Opens a node and runs it until a signal ends it.
 * @param program as failures name it, "zrs primary"
 * @param use what the node does with its file
 * @param open may reject with the signal's reason: that is an end in good order
 * @throws whatever ended it otherwise
 */
export async function serve(
  program: string,
  options: ServerOptions,
  host: Host,
  use: FileUse,
  open: Opening,
): Promise<void> {
  checkOutputs(options, host.disk);
  tlsFiles(options);
  using log = host.openLog(logOptions(options));
  try {
    await serveLogged(program, options, host, log, use, open);
  } catch (error) {
    logFailure(log, error, options);
    throw error;
  }
}

async function serveLogged(
  program: string,
  options: ServerOptions,
  host: Host,
  log: SystemLog,
  use: FileUse,
  open: Opening,
): Promise<void> {
  using stack = new DisposableStack();
  const readyFile = options.readyFile === undefined
    ? undefined
    : stack.use(ReadyFile.prepare(host.disk, options.readyFile, host.isRunning));
  const stop = new AbortController();
  stack.use(catchUncaught(program, host, log, () => readyFile?.remove()));
  stack.use(listenToSignals(host, log, stop, () => readyFile?.remove()));

  const { disk, clock, random } = host;
  const files = tlsFiles(options);
  const secure = files === undefined ? undefined : await openSecureNetwork(files, options, host, log);
  if (secure !== undefined) stack.use(host.onSignal(RELOAD_SIGNAL, () => void reload(secure, log)));
  const network = secure ?? host.network;
  const secret = options.authFile === undefined ? undefined : openAuthFile(options.authFile, disk, log);
  if (secret !== undefined) stack.use(host.onSignal(RELOAD_SIGNAL, () => reloadSecret(secret, log)));
  await using node = await unlessStopped(
    stop.signal,
    open({ disk, network, clock, random, log }, stop.signal, secret),
  );
  if (node === undefined) return;
  const { address } = node;
  if (address !== undefined && secure === undefined && !isThisMachineOnly(address)) {
    log.warning(secret === undefined ? OPEN_WARNING : UNENCRYPTED_WARNING, {
      address: formatAddress(address),
    });
  }
  await using control = await openControl(node, use, options, host, log);
  readyFile?.write({
    pid: host.pid,
    ...(address !== undefined && { replicateTo: formatAddress(address) }),
    ...(control !== undefined && { control: control.path }),
  });
  if (!stop.signal.aborted) await host.notifySystemd("READY=1");
  await node.run(stop.signal);
}

/** @throws UsageError about the file */
function openAuthFile(path: string, disk: Disk, log: Log): AuthFile {
  const file = AuthFile.open(disk, path);
  for (const warning of file.warnings) log.warning(warning);
  return file;
}

/** Reads the secret anew; the one in use stays when the new one is bad. */
function reloadSecret(file: AuthFile, log: Log): void {
  try {
    file.reload();
  } catch (error) {
    if (!(error instanceof ZrsError)) throw error;
    log.error(`${withHint(error.message, error.hint)}. The secret in use stays`);
    return;
  }
  log.info("Read the secret anew, for connections from now on");
  for (const warning of file.warnings) log.warning(warning);
}

/** @throws UsageError about the files */
async function openSecureNetwork(
  files: TlsFiles,
  options: ServerOptions,
  host: Host,
  log: SystemLog,
): Promise<SecureNetwork> {
  const repeated = new RepeatedLog(host.clock, log);
  const network = await host.openSecureNetwork({
    ...files,
    ...(options.tlsName !== undefined && { name: options.tlsName }),
    onRefused: (peer, reason) => repeated.tell("warning", peer, `dropped: ${reason}`),
  });
  for (const warning of network.warnings) log.warning(warning);
  return network;
}

/** Reads certificate, key and authority anew; those in use stay when the new ones are bad. */
async function reload(network: SecureNetwork, log: SystemLog): Promise<void> {
  try {
    await network.reload();
  } catch (error) {
    if (!(error instanceof ZrsError)) throw error;
    log.error(`${withHint(error.message, error.hint)}. The certificate, key and authority in use stay`);
    return;
  }
  log.info("Read certificate, key and authority anew, for connections from now on");
  for (const warning of network.warnings) log.warning(warning);
}

/** @returns undefined when the work was given up because of the signal */
async function unlessStopped<T>(signal: AbortSignal, work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (signal.aborted && error === signal.reason) return undefined;
    throw error;
  }
}

/** SIGTERM and SIGINT end the work in good order, and a second one at once; others reopen the log. */
function listenToSignals(
  host: Host,
  log: SystemLog,
  stop: AbortController,
  beforeExit: () => void,
): Disposable {
  const stack = new DisposableStack();
  for (const [signal, code] of STOP_SIGNALS) {
    stack.use(host.onSignal(signal, () => {
      if (stop.signal.aborted) {
        log.warning("Stopping at once, at the second signal", { signal });
        beforeExit();
        host.exit(code);
      }
      log.info("Stopping", { signal });
      void host.notifySystemd("STOPPING=1");
      stop.abort();
    }));
  }
  for (const signal of REOPEN_SIGNALS) stack.use(host.onSignal(signal, () => log.reopen()));
  return stack;
}

/** What escapes every await is a bug of ours, after which nothing can be relied on: log it, and end. */
function catchUncaught(program: string, host: Host, log: Log, beforeExit: () => void): Disposable {
  return host.onUncaught((error) => {
    log.error("Stopped by a bug of ours", { error });
    host.err(`${formatFailure(program, error)}\n`);
    beforeExit();
    host.exit(EXIT.bug);
  });
}

/**
 * The command's last line on standard error says what our own failures are; the log repeats it only where it
 * goes elsewhere. The stack of a bug is in the log always.
 */
function logFailure(log: Log, error: unknown, options: ServerOptions): void {
  const origin = originOf(error);
  if (!(origin instanceof ZrsError)) log.error("Stopped by a bug of ours", { error: origin });
  else if (options.logFile !== undefined) log.error(origin.message, { hint: origin.hint });
}
