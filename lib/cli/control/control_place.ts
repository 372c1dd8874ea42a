/** Where a node listens for questions. */
import type { Disk } from "../../ports/mod.ts";

/** Where a node that owns its file listens, unless it was told otherwise. */
export function controlPathOf(dataFs: string): string {
  return `${dataFs}.zrs`;
}

/**
 * Where to ask about a place.
 * @param place the path of a file or of a control socket
 * @returns undefined where there is no socket
 * @throws UsageError when it may not be looked for
 */
export function findSocket(place: string, disk: Disk): string | undefined {
  const isSocket = (path: string) => disk.status(path)?.kind === "socket";
  // A node listens beside the file itself, whatever links lead there.
  return [place, controlPathOf(place), controlPathOf(disk.realPath(place))].find(isSocket);
}
