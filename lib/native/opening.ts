/**
 * Which protocol a secondary speaks that has just connected: the first five bytes tell, for a hello is longer than
 * any greeting of zrs2, and begins with a brace (docs/native_protocol.md, "Beginning").
 */
import { PREFIX_LENGTH } from "../bytes/mod.ts";
import { KIND, MAX_CONTROL_BYTES } from "./frames.ts";

/** The longest message with which a secondary of zrs2 may begin. */
const MAX_ZRS2_GREETING = 8;

/** @returns undefined while too few bytes have come to tell; what is neither is for zrs2 to refuse */
export function protocolOf(begun: Uint8Array): "native" | "zrs2" | undefined {
  if (begun.length < PREFIX_LENGTH) return undefined;
  const length = new DataView(begun.buffer, begun.byteOffset).getUint32(0);
  if (length <= MAX_ZRS2_GREETING || length > MAX_CONTROL_BYTES) return "zrs2";
  if (begun.length === PREFIX_LENGTH) return undefined;
  return begun[PREFIX_LENGTH] === KIND.control ? "native" : "zrs2";
}
