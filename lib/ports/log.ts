/** What an administrator reads afterwards. Messages are whole sentences; facts are for programs. */

export type LogFacts = Readonly<Record<string, unknown>>;

export interface Log {
  debug(message: string, facts?: LogFacts): void;
  info(message: string, facts?: LogFacts): void;
  warning(message: string, facts?: LogFacts): void;
  error(message: string, facts?: LogFacts): void;
}
