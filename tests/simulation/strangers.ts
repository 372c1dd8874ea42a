/**
 * Nodes with a shared secret. One that has another than its source, or has one while its source has none, or the
 * other way round, is refused for ever: it writes nothing, and is told nothing.
 */
import type { Report } from "./checkers.ts";
import type { FileView } from "./file_view.ts";
import type { SeededRandom } from "./random.ts";

/** The secret of each node, by name; undefined where it has none. */
export type Secrets = ReadonlyMap<string, string | undefined>;

/** Mostly none; sometimes all have the same, sometimes one of them has another, or none. */
export function drawSecrets(random: SeededRandom, names: readonly string[]): Secrets {
  const common = random.chance(0.3) ? "a secret of the cluster" : undefined;
  const others = ["another secret altogether", common === undefined ? "a secret of its own" : undefined];
  const stranger = random.chance(0.1) ? random.pick(names) : undefined;
  return new Map(names.map((name) => [name, name === stranger ? random.pick(others) : common]));
}

export function secretOf(text: string | undefined): { readonly bytes: Uint8Array } | undefined {
  return text === undefined ? undefined : { bytes: new TextEncoder().encode(text) };
}

/** What a secondary's log says when it is refused for its secret, or refuses its source. */
const REFUSED =
  /: refused: .*\bsecret\b|: it has not proved that it has our secret|cannot go on .*\bdemands a secret/;

export class StrangerChecker {
  /** Whether its secret is another than its source's. */
  readonly isStranger: boolean;
  /** When it was last refused, in simulated milliseconds. */
  refusedMs: number | undefined;
  readonly #name: string;
  readonly #report: Report;
  /** How many transactions the operator has begun it with. */
  #begunWith = 0;

  constructor(name: string, isStranger: boolean, report: Report) {
    this.#name = name;
    this.isStranger = isStranger;
    this.#report = report;
  }

  begun(transactions: number): void {
    this.#begunWith = transactions;
  }

  /** Its file has changed. */
  changed({ transactions }: FileView): void {
    if (!this.isStranger || transactions.length <= this.#begunWith) return;
    this.#broken(`has got transactions from a source whose secret it has not`);
  }

  /** Its log says this. */
  hear(message: string, nowMs: number): void {
    if (!REFUSED.test(message)) return;
    this.refusedMs = nowMs;
    if (!this.isStranger) this.#broken(`has the secret of its source, and hears: ${message}`);
  }

  /** The log of its source says this. */
  hearSource(message: string): void {
    if (this.isStranger && /^\w+:\d+: connected with /.test(message)) {
      this.#broken(`is served by a source whose secret it has not`);
    }
  }

  #broken(what: string): void {
    this.#report("StrangerChecker", `${this.#name} ${what}`);
  }
}
