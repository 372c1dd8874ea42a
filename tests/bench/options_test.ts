import assert from "node:assert/strict";
import { parseOptions } from "./options.ts";

Deno.test("a case, a pair, a size and rounds are read as deno task passes them on", () => {
  const options = parseOptions(
    ["--", "catch-up", "--pair", "ours-python", "--size", "small", "--rounds", "3"],
  );
  assert.deepEqual(options.cases, ["catch-up"]);
  assert.deepEqual(options.pair, ["ours", "python"]);
  assert.equal(options.size, "small");
  assert.equal(options.rounds, 3);
  assert.equal(options.quick, false);
});

Deno.test("what a benchmark cannot do is refused in words", () => {
  const wrong = [["--pair", "ours"], ["--pair", "ours-java"], ["--size", "huge"], ["--rounds", "0"]];
  for (const args of wrong) assert.throws(() => parseOptions(args), /^Error: Cannot read --/);
});
