/** The files that are replicated and opened, made by real ZODB, once for each directory. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { ZodbWriter } from "../kit/peers.ts";

/** What a file holds: `transactions` of `records` new objects each, of `bytes` random bytes. */
export interface Shape {
  readonly name: string;
  readonly transactions: number;
  readonly records: number;
  readonly bytes: number;
}

/** A file that is there. */
export interface DataFile extends Shape {
  readonly path: string;
  /** In bytes. */
  readonly size: number;
}

export const SMALL: Shape = { name: "small", transactions: 50_000, records: 10, bytes: 900 };
export const BIG: Shape = { name: "big", transactions: 5_280, records: 10, bytes: 15_000 };

/** Ten million objects, in 823 MB. */
export const TEN_MILLION: Shape = { name: "ten-million", transactions: 100_000, records: 100, bytes: 40 };

/** No answer of a peer may take longer than its deadline: this much is made at once. */
const RECORDS_AT_ONCE = 500_000;
const BYTES_AT_ONCE = 500_000_000;

/** Where `fill` begins to count oids. */
const FIRST_OID = 2n ** 32n;

export class DataFiles {
  /** Where they are. */
  readonly directory: string;
  readonly #quick: boolean;
  readonly #say: (line: string) => void;

  /** @param quick makes all files a hundredth of their size */
  constructor(directory: string, quick: boolean, say: (line: string) => void) {
    this.directory = directory;
    this.#quick = quick;
    this.#say = say;
  }

  /** The file of this shape with its index beside it; made when it is not there. */
  async get(wanted: Shape): Promise<DataFile> {
    const transactions = this.#quick ? Math.ceil(wanted.transactions / 100) : wanted.transactions;
    const shape = { ...wanted, transactions };
    const path = join(this.directory, `${nameOf(shape)}.fs`);
    if (!existsSync(path)) {
      this.#say(`Making ${path} with ZODB`);
      await make(shape, path);
    }
    return { ...shape, path, size: Deno.statSync(path).size };
  }
}

function nameOf({ name, transactions, records, bytes }: Shape): string {
  return `${name}-${transactions}x${records}x${bytes}`;
}

async function make(shape: Shape, path: string): Promise<void> {
  const unfinished = `${path}.making`;
  await removeCopy(unfinished);
  await using writer = await ZodbWriter.start("zodb55", { path: unfinished, create: true });
  const { records, bytes } = shape;
  const atOnce = Math.max(
    1,
    Math.floor(Math.min(RECORDS_AT_ONCE / records, BYTES_AT_ONCE / (records * bytes))),
  );
  for (let made = 0; made < shape.transactions;) {
    const transactions = Math.min(atOnce, shape.transactions - made);
    const firstOid = (FIRST_OID + BigInt(made * records)).toString(16).padStart(16, "0");
    await writer.fill({ transactions, records, size: bytes, firstOid });
    made += transactions;
  }
  await writer.close();
  await Deno.rename(`${unfinished}.index`, `${path}.index`);
  await Deno.rename(unfinished, path); // last: with it all is there
  for (const suffix of [".lock", ".tmp"]) await removeIfThere(unfinished + suffix);
}

/** Removes a Data.fs and what lies beside it. */
export async function removeCopy(path: string): Promise<void> {
  for (const suffix of ["", ".index", ".lock", ".tmp"]) await removeIfThere(path + suffix);
}

export async function removeIfThere(path: string): Promise<void> {
  try {
    await Deno.remove(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
