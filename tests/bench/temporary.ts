/** Directories that are gone at the end, also when a signal ends us. */
import { killAll } from "./ends.ts";

const SIGNALS = [["SIGINT", 130], ["SIGTERM", 143]] as const;

export class TemporaryDirectories implements Disposable {
  readonly #paths: string[] = [];
  readonly #listeners = SIGNALS.map(([signal, code]) => {
    const stop = () => {
      killAll();
      this.#removeAll();
      Deno.exit(code);
    };
    Deno.addSignalListener(signal, stop);
    return () => Deno.removeSignalListener(signal, stop);
  });

  /** @param within undefined: where the system has its temporary files */
  async make(within?: string): Promise<string> {
    const path = await Deno.makeTempDir({
      prefix: "zrs-bench-",
      ...(within !== undefined && { dir: within }),
    });
    this.#paths.push(path);
    return path;
  }

  [Symbol.dispose](): void {
    for (const removeListener of this.#listeners) removeListener();
    this.#removeAll();
  }

  #removeAll(): void {
    // The last one first: it may lie within the one before.
    for (const path of this.#paths.splice(0).reverse()) Deno.removeSync(path, { recursive: true });
  }
}
