/** Bytes, whatever they mean: integers, comparing, and messages with a length before them. */
export { readU64, viewOf, writeU64 } from "./integers.ts";
export { commonLength, equalAt, equalBytes } from "./compare.ts";
export { frame, FrameReader, type MessageSink, PREFIX_LENGTH, putPrefix, tooLong } from "./framing.ts";
