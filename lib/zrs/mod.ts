/**
 * The zrs2 replication protocol (docs/zrs_protocol.md), as zc.zrs speaks it: bytes to messages and back. No
 * sockets, no timers, no files: whoever has them drives these objects.
 */
export { MAX_TRANSACTION_MESSAGE, StreamEncoder, transactionMessageRoom } from "./encoder.ts";
export { encodeRefusal, MAX_COMMIT_MESSAGE, MAX_RECORD_HEAD } from "./messages.ts";
export { StreamDecoder, type StreamHandler } from "./decoder.ts";
export { encodeGreeting, GreetingDecoder, KEEP_ALIVE, type Version } from "./greeting.ts";
