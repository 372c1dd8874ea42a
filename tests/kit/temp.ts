/** Temporary directories that end with the test that made them. */
import { join } from "node:path";

/**
 * A fresh directory, removed with all it holds when disposed of:
 * `await using directory = await TempDirectory.make();`
 */
export class TempDirectory implements AsyncDisposable {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  static async make(): Promise<TempDirectory> {
    // A short name: the path of a Unix socket within it may have no more than about 100 bytes.
    return new TempDirectory(await Deno.makeTempDir({ prefix: "zrs-" }));
  }

  /** A path within the directory. */
  join(...names: string[]): string {
    return join(this.path, ...names);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.path, { recursive: true });
  }
}
