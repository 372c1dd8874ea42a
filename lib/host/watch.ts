/**
 * Hears of changes in a directory. Best effort by design: the system may run out of watches, drop events in a
 * flood, or lose the directory; then nothing more is heard, and whoever watches also looks now and then.
 */

import { basename } from "node:path";
import { setImmediate } from "node:timers";

/**
 * Calls back at the first change, and once more at the end of an event-loop turn that saw further ones.
 * @param prefix of the names that count
 */
export function watchDirectory(directory: string, changed: () => void, prefix: string): Disposable {
  const watcher = startWatcher(directory);
  if (watcher === undefined) return { [Symbol.dispose]: () => {} };
  let closed = false;
  let turn: "quiet" | "called" | "changed again" = "quiet";

  function report(): void {
    if (closed) return;
    turn = "called";
    setImmediate(endTurn);
    // On its own, so that an error thrown by the callback is not taken for one of the watcher.
    queueMicrotask(() => closed || changed());
  }

  function endTurn(): void {
    const again = turn === "changed again";
    turn = "quiet";
    if (again) report();
  }

  async function listen(events: Deno.FsWatcher): Promise<void> {
    try {
      for await (const event of events) {
        // A file was closed, changed or not: whoever answers by opening it would be called for ever. Changes
        // have their own events.
        if (event.kind === "access" || !mayConcern(event, prefix)) continue;
        if (turn === "quiet") report();
        else turn = "changed again";
      }
    } catch {
      // The directory has vanished, or the system gave up on it.
    }
  }

  listen(watcher);
  return {
    [Symbol.dispose]() {
      if (closed) return;
      closed = true;
      watcher.close();
    },
  };
}

/** Also where the system has lost events, or does not say what they are about. */
function mayConcern({ flag, paths }: Deno.FsEvent, prefix: string): boolean {
  return flag !== undefined || paths.length === 0 || paths.some((path) => basename(path).startsWith(prefix));
}

function startWatcher(directory: string): Deno.FsWatcher | undefined {
  try {
    return Deno.watchFs(directory, { recursive: false });
  } catch {
    return undefined;
  }
}
