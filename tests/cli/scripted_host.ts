/** A host of which the test holds the strings: what was written and logged, and signals that come when it says. */
import {
  type Host,
  type LogOptions,
  type SecureNetwork,
  type Signal,
  systemHost,
  type SystemLog,
  type TlsOptions,
} from "../../lib/host/mod.ts";
import type { Disk, LogFacts } from "../../lib/ports/mod.ts";
import { Feed } from "../kit/feed.ts";

/** Thrown where the process would have ended at once. */
export class Exited extends Error {
  constructor(readonly code: number) {
    super(`Exited with ${code}`);
  }
}

export interface LogLine {
  readonly level: "debug" | "info" | "warning" | "error";
  readonly message: string;
  readonly facts: LogFacts;
}

export class ScriptedHost implements Host {
  readonly #system = systemHost();
  readonly network = this.#system.network;
  readonly clock = this.#system.clock;
  readonly random = this.#system.random;
  readonly processes = this.#system.processes;
  readonly pid = 4711;
  readonly name = "db1";
  readonly disk: Disk;
  /** All of standard output and standard error. */
  readonly written = { out: "", err: "" };
  /** What was logged, at any level. */
  readonly logged = new Feed<LogLine>();
  /** What the person at the terminal answers, one after the other; nobody is there when it is undefined. */
  answers: string[] | undefined;
  /** States told to the service manager. */
  readonly notified: string[] = [];
  /** Resolves when the service manager is told that we are ready: then the ready file is written, too. */
  readonly ready: Promise<void>;
  readonly #ready = Promise.withResolvers<void>();
  /** Processes that run, besides ours. */
  readonly running = new Set<number>();
  logOptions: LogOptions | undefined;
  secureOptions: TlsOptions | undefined;
  reopened = 0;
  readonly #secure: SecureNetwork | undefined;
  readonly #signals = new Map<Signal, Set<() => void>>();
  readonly #uncaught = new Set<(error: unknown) => void>();

  /** @param secure in place of the real machine's network with certificates */
  constructor(disk: Disk = systemHost().disk, secure?: SecureNetwork) {
    this.disk = disk;
    this.ready = this.#ready.promise;
    this.#secure = secure;
  }

  async openSecureNetwork(options: TlsOptions): Promise<SecureNetwork> {
    this.secureOptions = options;
    return this.#secure ?? await this.#system.openSecureNetwork(options);
  }

  /** Delivers a signal. @throws Exited when the process would have ended at once */
  signal(signal: Signal): void {
    for (const callback of this.#signals.get(signal) ?? []) callback();
  }

  /** An error that nobody caught. @throws Exited when the process would have ended at once */
  uncaught(error: unknown): void {
    for (const callback of this.#uncaught) callback(error);
  }

  /** Whether anything still listens for signals or uncaught errors. */
  get listens(): boolean {
    return this.#uncaught.size > 0 || [...this.#signals.values()].some((callbacks) => callbacks.size > 0);
  }

  out = (text: string): void => void (this.written.out += text);
  err = (text: string): void => void (this.written.err += text);
  ask = (question: string): string | undefined => {
    const answer = this.answers?.shift();
    if (answer !== undefined) this.err(question);
    return answer;
  };
  isTerminal = (): boolean => false;
  columns = (): undefined => undefined;
  env = (): undefined => undefined;
  isRunning = (pid: number): boolean => this.running.has(pid);

  onSignal(signal: Signal, callback: () => void): Disposable {
    return register(this.#signals.getOrInsertComputed(signal, () => new Set()), callback);
  }

  onUncaught(callback: (error: unknown) => void): Disposable {
    return register(this.#uncaught, callback);
  }

  exit = (code: number): never => {
    throw new Exited(code);
  };

  notifySystemd(state: string): Promise<void> {
    this.notified.push(state);
    if (state === "READY=1") this.#ready.resolve();
    return Promise.resolve();
  }

  openLog(options: LogOptions): SystemLog {
    this.logOptions = options;
    const add = (level: LogLine["level"]) => (message: string, facts: LogFacts = {}) => {
      this.logged.push({ level, message, facts });
    };
    return {
      debug: add("debug"),
      info: add("info"),
      warning: add("warning"),
      error: add("error"),
      reopen: () => void this.reopened++,
      close() {},
      [Symbol.dispose]() {},
    };
  }
}

function register<Callback>(callbacks: Set<Callback>, callback: Callback): Disposable {
  callbacks.add(callback);
  return { [Symbol.dispose]: () => void callbacks.delete(callback) };
}
