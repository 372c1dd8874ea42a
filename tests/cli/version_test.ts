import assert from "node:assert/strict";
import { VERSION } from "../../lib/cli/version.ts";
import config from "../../deno.json" with { type: "json" };

Deno.test("--version and deno.json say the same", () => {
  assert.equal(VERSION, config.version);
});
