/** A log that a test reads, and waits for. */
import type { Log, LogFacts } from "../../lib/ports/mod.ts";
import { Feed } from "./feed.ts";

export interface LoggedLine {
  readonly level: "debug" | "info" | "warning" | "error";
  readonly message: string;
  readonly facts: LogFacts;
}

export class CollectedLog implements Log {
  /** Everything logged so far, oldest first. */
  readonly lines = new Feed<LoggedLine>();

  debug(message: string, facts: LogFacts = {}): void {
    this.lines.push({ level: "debug", message, facts });
  }

  info(message: string, facts: LogFacts = {}): void {
    this.lines.push({ level: "info", message, facts });
  }

  warning(message: string, facts: LogFacts = {}): void {
    this.lines.push({ level: "warning", message, facts });
  }

  error(message: string, facts: LogFacts = {}): void {
    this.lines.push({ level: "error", message, facts });
  }

  /**
   * Waits for a line whose message matches, also one that was there before.
   * @param from the count of older lines to leave out, for waiting for something to come again
   */
  async waitFor(pattern: RegExp, options: { from?: number } = {}): Promise<LoggedLine> {
    const what = `log line ${pattern}`;
    return await this.lines.waitFor(what, ({ message }) => pattern.test(message), options).catch((error) => {
      throw new Error(`${error.message}; logged so far:\n${this.toString()}`, { cause: error });
    });
  }

  /** The messages that match, oldest first. */
  matching(pattern: RegExp): string[] {
    return this.lines.items.map(({ message }) => message).filter((message) => pattern.test(message));
  }

  /** The warnings and errors, for asserting that there were none. */
  complaints(): string[] {
    return this.lines.items
      .filter(({ level }) => level === "warning" || level === "error")
      .map(({ level, message }) => `${level}: ${message}`);
  }

  toString(): string {
    return this.lines.items.map(({ level, message }) => `${level}: ${message}`).join("\n");
  }
}
