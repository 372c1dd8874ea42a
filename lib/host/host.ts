/** All that the command line gets from the machine it runs on; a test hands it another machine. */

import type { Clock, Disk, Log, Network, Processes, Random } from "../ports/mod.ts";
import type { TlsFiles } from "./tls_files.ts";

export type LogLevel = "debug" | "info" | "warning" | "error";

export interface LogOptions {
  /** The least serious level that is written. */
  readonly level: LogLevel;
  /** Where to append the lines; standard error when absent. */
  readonly file?: string;
}

export interface SystemLog extends Log, Disposable {
  /**
   * Opens the log file anew by its path, after log rotation has moved it away. If that fails, the log goes on
   * in the file it has, and says so there. Without a file nothing happens.
   */
  reopen(): void;
  /** Closes the file; what is logged later goes to standard error. Closing twice is harmless. */
  close(): void;
}

export interface TlsOptions extends TlsFiles {
  /** What the other end's certificate must be for, in place of the host that is connected to. */
  readonly name?: string;
  /** Is told of each connection that was dropped because its other end did not prove who it is. */
  readonly onRefused: (peer: string, reason: string) => void;
}

/** Every connection is encrypted, and both ends have shown a certificate. */
export interface SecureNetwork extends Network {
  /** What is not as it should be with the files that are in use, but does not hinder. */
  readonly warnings: readonly string[];
  /**
   * Reads the files anew, for connections that begin from now on.
   * @throws UsageError, DiskError when they cannot be used; those that were in use stay
   */
  reload(): Promise<void>;
}

export type Signal = "SIGTERM" | "SIGINT" | "SIGHUP" | "SIGUSR2";

export type OutputStream = "out" | "err";

export interface Host {
  readonly disk: Disk;
  readonly network: Network;
  readonly clock: Clock;
  readonly random: Random;
  readonly processes: Processes;
  /** This process's id. */
  readonly pid: number;
  /** What this machine calls itself. */
  readonly name: string;

  /** @throws UsageError that names the file and what to do, DiskError */
  openSecureNetwork(options: TlsOptions): Promise<SecureNetwork>;

  /**
   * Writes results to standard output; all of it has been handed to the system on return.
   * @throws UnavailableError when the reader has gone (`| head`), DiskFullError, DiskError
   */
  out(text: string): void;
  /** Writes talk to standard error, if that still takes it. */
  err(text: string): void;
  /**
   * Asks the person at the terminal and waits for the answer, a line; everything else waits, too.
   * @returns undefined when nobody can answer: standard input or standard error is no terminal
   */
  ask(question: string): string | undefined;
  /** Whether a person looks at the stream on a terminal. */
  isTerminal(stream: OutputStream): boolean;
  /** The terminal's width in characters; undefined where neither stream is a terminal. */
  columns(): number | undefined;

  /** An environment variable; undefined when it is not set. */
  env(name: string): string | undefined;
  /** Calls back at each arrival of the signal, in place of what the system would do, until disposed of. */
  onSignal(signal: Signal, callback: () => void): Disposable;
  /**
   * Calls back with every error that nobody caught and every rejection that nobody handled, in place of the
   * process ending, until disposed of.
   */
  onUncaught(callback: (error: unknown) => void): Disposable;
  /** Ends the process at once. */
  exit(code: number): never;
  /** Whether there is a process of that id on this machine. */
  isRunning(pid: number): boolean;
  /**
   * Tells the service manager about our state: "READY=1", "STOPPING=1", "STATUS=…", several divided by line
   * feeds. Does nothing where none listens. It never fails: a server runs as well without being seen.
   */
  notifySystemd(state: string): Promise<void>;

  /** @throws UsageError, NotFoundError, DiskError when the file cannot be opened */
  openLog(options: LogOptions): SystemLog;
}
