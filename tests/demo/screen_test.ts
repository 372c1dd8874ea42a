import assert from "node:assert/strict";
import { type Row, Screen } from "./screen.ts";

const ROWS: readonly Row[] = [
  {
    name: "source",
    state: "being written",
    lastTid: 0x3f594581777777n,
    transactions: 1234,
    bytes: 5_000_000,
  },
  { name: "secondary", state: "running, 42", lastTid: 0n, transactions: 1000, bytes: 0, behind: 234 },
];

Deno.test("without a terminal progress is plain lines, not more than one a second", () => {
  let text = "";
  let now = 0;
  const screen = new Screen((part) => text += part, undefined, () => now);
  for (; now < 3000; now += 400) screen.progress(ROWS);
  const line = "source 1,234 commits, 4.8 MB; secondary (running, 42) 234 behind";
  assert.deepEqual(text.split("\n"), [`  0.0 s  ${line}`, `  1.2 s  ${line}`, `  2.4 s  ${line}`, ""]);
});

Deno.test("on a terminal a table stands below the events, and never takes more lines than it has", () => {
  let text = "";
  const columns = 60;
  const screen = new Screen((part) => text += part, columns, () => 0);
  screen.progress(ROWS);
  const table = text;
  assert.equal(table.split("\n").length - 1, 4);
  assert(table.split("\n").every((line) => line.length < columns));
  screen.event("something happened");
  assert.equal(text, `${table}\x1b[4A\x1b[J  0.0 s  something happened\n`);
  screen.progress(ROWS);
  assert(text.endsWith(table));
});
