/** This process: how it ends, and what escapes every handler. */

import process from "node:process";

/** Ends at once: nothing that is still going on gets another turn. */
export function exit(code: number): never {
  Deno.exit(code);
}

/** Errors thrown where nobody waits, and rejections that nobody handles; each would end the process otherwise. */
export function onUncaught(callback: (error: unknown) => void): Disposable {
  function onError(event: ErrorEvent): void {
    event.preventDefault();
    callback(event.error);
  }
  function onRejection(event: PromiseRejectionEvent): void {
    event.preventDefault();
    callback(event.reason);
  }
  globalThis.addEventListener("error", onError);
  globalThis.addEventListener("unhandledrejection", onRejection);
  return {
    [Symbol.dispose]() {
      globalThis.removeEventListener("error", onError);
      globalThis.removeEventListener("unhandledrejection", onRejection);
    },
  };
}

/** Whether there is a process of that id on this machine. */
export function isRunning(pid: number): boolean {
  try {
    // Signal 0 is not delivered: only whether it could be is found out.
    return process.kill(pid, 0);
  } catch (error) {
    // Of another user's process we may not know more than that it is there.
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}
