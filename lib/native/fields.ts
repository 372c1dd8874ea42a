/** The fields of a peer's JSON, each judged as it is taken. */
import { ProtocolError } from "../errors.ts";

/** Of a list. */
const MAX_NAMES = 100;

/** What a peer says, fit for a log. */
export function printable(text: string): string {
  return text.slice(0, 1000).replace(/\p{Cc}/gu, "?");
}

export class Fields {
  readonly #values: Record<string, unknown>;

  constructor(values: Record<string, unknown>) {
    this.#values = values;
  }

  has(name: string): boolean {
    return this.any(name) !== undefined && this.any(name) !== null;
  }

  any(name: string): unknown {
    return Object.hasOwn(this.#values, name) ? this.#values[name] : undefined;
  }

  /** The fields of a field. */
  nested(name: string): Fields {
    const value = this.any(name);
    return typeof value === "object" && value !== null
      ? new Fields(value as Record<string, unknown>)
      : this.#refuse(name, "an object");
  }

  /** The fields of each object in a list. */
  list(name: string): Fields[] {
    const value = this.any(name);
    const isList = Array.isArray(value) && value.length <= MAX_NAMES;
    return isList && value.every((each) => typeof each === "object" && each !== null)
      ? value.map((each) => new Fields(each))
      : this.#refuse(name, "a list of objects");
  }

  oneOf<Word extends string>(name: string, words: readonly Word[]): Word {
    const value = this.any(name);
    return words.find((each) => each === value) ?? this.#refuse(name, `one of ${words.join(", ")}`);
  }

  text(name: string): string {
    const value = this.any(name);
    return typeof value === "string" ? value : this.#refuse(name, "text");
  }

  words(name: string): string {
    return printable(this.text(name));
  }

  tid(name: string): bigint {
    const value = this.any(name);
    if (typeof value === "string" && /^[0-9a-f]{16}$/.test(value)) return BigInt(`0x${value}`);
    return this.#refuse(name, "16 hexadecimal digits");
  }

  digest(name: string): string | undefined {
    if (!this.has(name)) return undefined;
    const value = this.any(name);
    return typeof value === "string" && /^[0-9a-f]{32}$/.test(value) ? value : this.#refuse(name, "a digest");
  }

  /** 32 bytes. */
  hex256(name: string): string {
    const value = this.any(name);
    if (typeof value === "string" && /^[0-9a-f]{64}$/.test(value)) return value;
    return this.#refuse(name, "64 hexadecimal digits");
  }

  count(name: string): number {
    const value = this.any(name);
    if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
    return this.#refuse(name, "a whole number that is not negative");
  }

  time(name: string): number {
    const value = this.any(name);
    return typeof value === "number" && Number.isFinite(value) ? value : this.#refuse(name, "a number");
  }

  names(name: string): string[] {
    const value = this.any(name);
    const isList = Array.isArray(value) && value.length <= MAX_NAMES;
    return isList && value.every((each) => typeof each === "string")
      ? value.map(printable)
      : this.#refuse(name, "a list of names");
  }

  #refuse(name: string, expected: string): never {
    throw new ProtocolError(`Cannot read control message: its field ${name} must be ${expected}`);
  }
}
