/** Asking a ZEO server, ours or Python's, for its last transaction, by the question that monitors put: `ruok`. */
import { ProtocolError, UnavailableError } from "../../errors.ts";
import { type Address, formatAddress } from "../../ports/mod.ts";
import { readWithin } from "../receiving/intake.ts";
import type { Ports } from "../ports.ts";

const TIMEOUT_MS = 30_000;
const LENGTH_BYTES = 4;
/** The greeting and the answer have some hundred bytes for each storage. */
const MAX_ANSWER_BYTES = 1024 * 1024;

/** A frame of four bytes: "ruok". */
const QUESTION = Uint8Array.of(0, 0, 0, 4, 0x72, 0x75, 0x6f, 0x6b);

/**
 * @returns the tid of the last transaction that the server has; of its only storage, or of that called `1`
 * @throws UnavailableError where it does not answer; ProtocolError where that is no answer
 */
export async function askLastTid(
  { network, clock }: Pick<Ports, "network" | "clock">,
  server: Address,
  signal: AbortSignal,
): Promise<bigint> {
  const name = formatAddress(server);
  using connection = await network.connect(server, { signal });
  const received: number[] = [];
  const chunk = new Uint8Array(4096);
  /** The next frame. */
  const take = async (): Promise<Uint8Array> => {
    for (;;) {
      const bytes = Uint8Array.from(received.slice(0, LENGTH_BYTES));
      const length = bytes.length < LENGTH_BYTES ? undefined : new DataView(bytes.buffer).getUint32(0);
      if (length !== undefined && length > MAX_ANSWER_BYTES) {
        throw new ProtocolError(`Cannot take the answer of ${name}: it is no ZEO server`);
      }
      if (length !== undefined && received.length >= LENGTH_BYTES + length) {
        return Uint8Array.from(received.splice(0, LENGTH_BYTES + length).slice(LENGTH_BYTES));
      }
      const silence = `the ZEO server ${name} has said nothing`;
      const count = await readWithin(clock, connection, chunk, TIMEOUT_MS, silence);
      received.push(...chunk.subarray(0, count));
    }
  };
  try {
    await connection.write(QUESTION);
    await take(); // which protocol it speaks
    return readLastTid(await take(), name);
  } catch (error) {
    if (!(error instanceof UnavailableError)) throw error;
    throw new UnavailableError(`Cannot ask ${name} for its last transaction: ${error.message}`, {
      ...error.facts,
      hint: "it must be the address of a ZEO server of version 5 or later",
    });
  }
}

function readLastTid(answer: Uint8Array, name: string): bigint {
  let storages: unknown;
  try {
    storages = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(answer));
  } catch (cause) {
    throw new ProtocolError(`Cannot take the answer of ${name}: it is not JSON`, { cause });
  }
  const all = Object.entries(typeof storages === "object" && storages !== null ? storages : {});
  const [, status] = all.length === 1 ? all[0]! : all.find(([id]) => id === "1") ?? [];
  const tid = (status as Record<string, unknown> | undefined)?.["last-transaction"];
  if (typeof tid === "string" && /^[0-9a-f]{16}$/.test(tid)) return BigInt(`0x${tid}`);
  throw new ProtocolError(
    `Cannot take the answer of ${name}: it must name the last transaction of its only storage, or of storage 1`,
  );
}
