/** What the tests of the host need of the machine besides the host. */

/** Runs `use` with an empty directory, which is removed afterwards. */
export async function inTempDir(use: (dir: string) => void | Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "zrs-host-" });
  try {
    await use(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** Runs a program to its end and returns its output. @throws Error when it fails */
export function run(program: string, args: string[]): string {
  const { success, stdout, stderr } = new Deno.Command(program, { args }).outputSync();
  if (!success) throw new Error(`${program} failed: ${new TextDecoder().decode(stderr)}`);
  return new TextDecoder().decode(stdout);
}

/** Starts TypeScript that may import "host" (lib/host/mod.ts) in a process of its own. */
export function spawnDeno(code: string, args: string[] = []): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), { ...evalOptions(code, args), stdin: "piped" }).spawn();
}

/** As {@link spawnDeno}, without input, to the process's end. */
export function runDeno(code: string, args: string[] = []): Promise<Deno.CommandOutput> {
  return new Deno.Command(Deno.execPath(), evalOptions(code, args)).output();
}

function evalOptions(code: string, args: string[]): Deno.CommandOptions {
  const host = new URL("../../lib/host/mod.ts", import.meta.url).href;
  const config = new URL("../../deno.json", import.meta.url).pathname;
  const script = code.replaceAll(`"host"`, JSON.stringify(host));
  return {
    args: ["eval", "--config", config, "--ext=ts", script, ...args],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  };
}

/** The lines of a child's output, as they come. */
export async function* linesOf(stream: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    yield* lines;
  }
}
