/**
 * A database on another machine as the source of a copy. What answers there, zrs or the machine's own tools, is known
 * once it has been reached, and that is when the copy is locked: so nobody types a password in vain, and what the file
 * there has is looked at last.
 */
import type { Connection } from "../../ports/mod.ts";
import {
  connectFar,
  type FarDoor,
  type FarOptions,
  type FarPlace,
  type FarPorts,
  reachFile,
} from "./far_connect.ts";
import type { FarFile } from "./far_file.ts";
import type { SyncSource } from "../sync/sync_source.ts";

/** Why no transactions are compared with a file that is read by tools. */
export const FAR_CHECK_OBSTACLE = "the tools of the other machine tell bytes only: these were compared";

export class FarSource implements AsyncDisposable {
  readonly name: string;
  readonly isThisMachine = false;
  readonly #ports: FarPorts;
  readonly #place: FarPlace;
  readonly #options: Omit<FarOptions, "signal">;
  readonly #owned = new DisposableStack();

  constructor(ports: FarPorts, place: FarPlace, options: Omit<FarOptions, "signal">) {
    this.#ports = ports;
    this.#place = place;
    this.#options = options;
    this.name = place.name;
  }

  /**
   * Reaches it.
   * @param signal ends all that is done with it then, too
   * @throws NotFoundError, UsageError (a directory, no permission there, no such program here), UnavailableError; the
   * signal's reason
   */
  async reach(signal: AbortSignal): Promise<SyncSource | FarFileSource> {
    let door: FarDoor;
    try {
      door = this.#owned.use(await reachFile(this.#ports, this.#place, { ...this.#options, signal }));
    } catch (error) {
      signal.throwIfAborted();
      throw error;
    }
    return door.version === undefined ? new FarFileSource(door.file) : this.#zrsSource(door);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#owned.dispose();
    return Promise.resolve();
  }

  /** The first conversation is held through the door that stands open; each other one needs its own. */
  #zrsSource(door: FarDoor): SyncSource {
    let open: FarDoor | undefined = door;
    return {
      name: this.name,
      isThisMachine: false,
      problem: undefined,
      connect: async (signal) => {
        const first = open;
        open = undefined;
        return await (first?.beginZrs() ?? this.#connectAgain(signal));
      },
      [Symbol.asyncDispose]: () => this[Symbol.asyncDispose](),
    };
  }

  async #connectAgain(signal: AbortSignal): Promise<Connection> {
    const far = this.#owned.use(
      await connectFar(this.#ports, this.#place, { ...this.#options, by: "zrs", signal }),
    );
    if (far.kind !== "zrs") throw new Error("What answers is what was insisted on");
    return far.connection;
  }
}

/** A file that is read with the tools that are there. */
export class FarFileSource {
  readonly name: string;
  readonly isThisMachine = false;
  readonly #file: FarFile;

  constructor(file: FarFile) {
    this.name = file.name;
    this.#file = file;
  }

  /** The file that is there now, up to where it ends now. @throws as `FarFile.open` */
  async look(): Promise<FarFile> {
    return await this.#file.again();
  }
}
