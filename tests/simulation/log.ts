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
