/** Collects what a simulated process logs. */
import type { Log, LogFacts } from "../../lib/ports/mod.ts";
import type { Life } from "./life.ts";
import type { Scheduler } from "./scheduler.ts";

export interface LogEntry {
  readonly timeMs: number;
  readonly process: string;
  readonly level: "debug" | "info" | "warning" | "error";
  readonly message: string;
  readonly facts: LogFacts;
}

/** Passes everything on, and lets somebody hear the messages. */
export class TappedLog implements Log {
  readonly #log: Log;
  readonly #hear: (message: string) => void;

  constructor(log: Log, hear: (message: string) => void) {
    this.#log = log;
    this.#hear = hear;
  }

  debug(message: string, facts?: LogFacts): void {
    this.#log.debug(message, facts);
  }

  info(message: string, facts?: LogFacts): void {
    this.#hear(message);
    this.#log.info(message, facts);
  }

  warning(message: string, facts?: LogFacts): void {
    this.#hear(message);
    this.#log.warning(message, facts);
  }

  error(message: string, facts?: LogFacts): void {
    this.#hear(message);
    this.#log.error(message, facts);
  }
}

/** A dead process logs nothing. */
export class CollectingLog implements Log {
  readonly #entries: LogEntry[];
  readonly #scheduler: Scheduler;
  readonly #life: Life;

  constructor(entries: LogEntry[], scheduler: Scheduler, life: Life) {
    this.#entries = entries;
    this.#scheduler = scheduler;
    this.#life = life;
  }

  debug(message: string, facts: LogFacts = {}): void {
    this.#add("debug", message, facts);
  }

  info(message: string, facts: LogFacts = {}): void {
    this.#add("info", message, facts);
  }

  warning(message: string, facts: LogFacts = {}): void {
    this.#add("warning", message, facts);
  }

  error(message: string, facts: LogFacts = {}): void {
    this.#add("error", message, facts);
  }

  #add(level: LogEntry["level"], message: string, facts: LogFacts): void {
    if (!this.#life.alive) return;
    this.#entries.push({ timeMs: this.#scheduler.nowMs, process: this.#life.process, level, message, facts });
    this.#scheduler.note(this.#life.name, `logs ${level}: ${message}`);
  }
}
