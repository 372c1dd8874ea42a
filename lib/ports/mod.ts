/**
 * What the product needs from the world, as interfaces only. The host room implements them on the real
 * machine, the simulator of the tests on simulated ones; everything between is handed them, in the order
 * disk, network, clock, random, log.
 */
export type { BlockFile, Disk, FileLock, FileStatus, ReadableFile } from "./disk.ts";
export { formatAddress, isLoopback, isThisMachineOnly } from "./address.ts";
export type { Address, Connection, Listener, Network } from "./network.ts";
export type { ChildProcess, ProcessEnd, Processes } from "./processes.ts";
export type { Clock, Random, Timer } from "./clock.ts";
export type { Log, LogFacts } from "./log.ts";
