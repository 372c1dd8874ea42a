/** Reads a whole pickle of plain data. */
import { PickleError } from "../errors.ts";
import { PickleMachine } from "./machine.ts";
import type { Value } from "./value.ts";

/**
 * The value that a pickle of any protocol describes; texts and bytes in it are views of `bytes`.
 * @throws PickleError when it is damaged, refers to things outside itself, does not fill `bytes`, or
 * (PickleLimitError) has too many opcodes
 */
export function decodePickle(bytes: Uint8Array, from = 0, to = bytes.length): Value {
  const machine = new PickleMachine(bytes, from, to);
  const value = machine.run();
  if (machine.stopAt !== to - 1) {
    throw new PickleError("Cannot read pickle: more bytes come behind its end", {
      position: machine.stopAt + 1,
    });
  }
  return value;
}
