/** The one room that does I/O: the ports, implemented on Deno and the machine it runs on. */
export type { Host, LogLevel, LogOptions, OutputStream, Signal, SystemLog } from "./host.ts";
export { systemLog } from "./log.ts";
export { systemHost } from "./system.ts";
