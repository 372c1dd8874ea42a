/** The one room that does I/O: the ports, implemented on Deno and the machine it runs on. */
export type { Host, LogLevel, LogOptions, SecureNetwork, Signal, SystemLog, TlsOptions } from "./host.ts";
export type { TlsFiles } from "./tls_files.ts";
export { systemLog } from "./log.ts";
export { systemHost } from "./system.ts";
