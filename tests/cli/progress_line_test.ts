/** The line that shows how far long work is: on a terminal, after a while, and gone at the end. */
import assert from "node:assert/strict";
import { type Progress, ProgressLine } from "../../lib/cli/progress_line.ts";
import { ManualClock } from "../kit/manual_clock.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import { ScriptedHost } from "./scripted_host.ts";

const MIB = 1024 * 1024;
const CLEAR = "\r\x1b[K";

/** A host with a terminal, and time in the test's hands. */
class TerminalHost extends ScriptedHost {
  override readonly clock = new ManualClock();
  readonly #terminal: "out" | "err";

  constructor(terminal: "out" | "err" = "err") {
    super(new MemoryDisk());
    this.#terminal = terminal;
  }

  override isTerminal = (stream?: "in" | "out" | "err"): boolean => stream === this.#terminal;
}

type Doing = "comparison" | "copy" | "search";

function lineOn(host: TerminalHost): ProgressLine<Doing> {
  return new ProgressLine(host, { comparison: "comparing", copy: "copying", search: "searching" }, [
    "search",
  ]);
}

function copied(mib: number, total: number | undefined = 100 * MIB): Progress<Doing> {
  return { doing: "copy", done: mib * MIB, total };
}

Deno.test("progress is told as bytes, rate and time left, without what is not known", () => {
  const cases: [Progress<Doing>, string][] = [
    [copied(25), "copying: 25.0 MiB of 100.0 MiB, 5.0 MiB/s, 15 s left"],
    [{ doing: "copy", done: 25 * MIB, total: undefined }, "copying: 25.0 MiB, 5.0 MiB/s"],
    [copied(0), "copying: 0 bytes of 100.0 MiB"],
    [{ doing: "search", done: 1234, total: undefined }, "searching: 1234"],
  ];
  for (const [progress, expected] of cases) {
    const host = new TerminalHost();
    using line = lineOn(host);
    line.show({ ...progress, done: 0 });
    host.clock.advance(5000);
    line.show(progress);
    assert.equal(host.written.err, `${CLEAR}${expected}`);
  }
});

Deno.test("the line appears after a second, five times a second at most, and is taken away", () => {
  const host = new TerminalHost();
  {
    using line = lineOn(host);
    const drawn = () => host.written.err.split(CLEAR).slice(1);
    line.show(copied(0));
    host.clock.advance(999);
    line.show(copied(10));
    assert.equal(host.written.err, "");
    host.clock.advance(1);
    line.show(copied(10));
    assert.deepEqual(drawn(), ["copying: 10.0 MiB of 100.0 MiB, 10.0 MiB/s, 9 s left"]);
    host.clock.advance(199);
    line.show(copied(12));
    assert.equal(drawn().length, 1);
    host.clock.advance(1);
    line.show(copied(12));
    assert.equal(drawn().length, 2);
  }
  assert(host.written.err.endsWith(CLEAR));
  assert.equal(host.written.out, "");
});

Deno.test("what was compared before does not count for the rate of copying", () => {
  const host = new TerminalHost();
  using line = lineOn(host);
  line.show({ doing: "comparison", done: 0, total: 100 * MIB });
  host.clock.advance(50_000);
  line.show(copied(0));
  host.clock.advance(2_000);
  line.show(copied(10));
  assert(host.written.err.endsWith(`${CLEAR}copying: 10.0 MiB of 100.0 MiB, 5.0 MiB/s, 18 s left`));
});

Deno.test("what begins in the middle of a file counts for the rate from there on", () => {
  const host = new TerminalHost();
  using line = lineOn(host);
  line.show({ doing: "comparison", done: 90 * MIB, total: 100 * MIB });
  host.clock.advance(2_000);
  line.show({ doing: "comparison", done: 94 * MIB, total: 100 * MIB });
  assert.equal(host.written.err, `${CLEAR}comparing: 94.0 MiB of 100.0 MiB, 2.0 MiB/s, 3 s left`);
});

Deno.test("nothing is drawn where standard error is no terminal", () => {
  const host = new TerminalHost("out");
  {
    using line = lineOn(host);
    host.clock.advance(60_000);
    line.show(copied(10));
  }
  assert.deepEqual(host.written, { out: "", err: "" });
});
