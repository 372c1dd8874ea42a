/**
 * The release form: one executable. Making it downloads Deno's runtime once; where that cannot be had the test is
 * left out, and says so.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { VERSION } from "../../lib/cli/version.ts";

const PROJECT = fileURLToPath(new URL("../../", import.meta.url));
const directory = await Deno.makeTempDir({ prefix: "zrs-compile-" });
addEventListener("unload", () => Deno.removeSync(directory, { recursive: true }));
const executable = join(directory, "zrs");

/** What compiling said, and whether it failed for want of the runtime only. */
async function compile(): Promise<{ success: boolean; said: string; noRuntime: boolean }> {
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["compile", "--allow-all", "--output", executable, "main.ts"],
    cwd: PROJECT,
    env: { NO_COLOR: "1" },
  }).output();
  const said = new TextDecoder().decode(stderr);
  return { success, said, noRuntime: !success && /Download .*denort[^]*error sending request/.test(said) };
}

const compiled = await compile();
if (compiled.noRuntime) {
  console.error(`Left out: the compiled executable, for Deno's runtime cannot be downloaded here`);
}

Deno.test({
  name: "the compiled executable runs without Deno and without this checkout",
  ignore: compiled.noRuntime,
  async fn() {
    assert(compiled.success, compiled.said);
    const { code, stdout } = await new Deno.Command(executable, {
      args: ["--version"],
      cwd: directory,
      clearEnv: true,
    }).output();
    assert.equal(code, 0);
    assert.equal(new TextDecoder().decode(stdout), `zrs ${VERSION}\n`);
  },
});
