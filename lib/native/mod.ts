/**
 * The native stream between two nodes of ours (docs/native_protocol.md): bytes to messages and back. No sockets,
 * no timers, no files: whoever has them drives these objects.
 */
export { encodeAcknowledgement, Milestones } from "./acknowledge.ts";
export {
  type HandshakeReply,
  NONCE_BYTES,
  SecondaryHandshake,
  type Secret,
  SecretError,
  SourceHandshake,
} from "./authentication.ts";
export {
  type Begun,
  type BegunBlob,
  type Control,
  encodeControl,
  type Fit,
  type Hello,
  type RefusalCode,
  type Refused,
  VERSION,
  type WantedBlobs,
  type Welcome,
} from "./control.ts";
export {
  type Acknowledgement,
  type NativeContent,
  NativeDecoder,
  type NativeHandler,
  type Whole,
} from "./decoder.ts";
export { MAX_HEAD_FRAME, NativeEncoder } from "./encoder.ts";
export { protocolOf } from "./opening.ts";
export { MAX_RUN_BYTES } from "./frames.ts";
