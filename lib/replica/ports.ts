/** The world as the replica room sees it; the host and the simulator each make one. */
import type { Clock, Disk, Log, Network, Random } from "../ports/mod.ts";

export interface Ports {
  readonly disk: Disk;
  readonly network: Network;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}
