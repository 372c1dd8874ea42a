/** The line that shows how far a copy is: on a terminal, after a while, and gone at the end. */
import assert from "node:assert/strict";
import { describeProgress, ProgressLine } from "../../lib/cli/progress.ts";
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

function at(mib: number) {
  return { end: 10 * MIB + mib * MIB, startEnd: 10 * MIB, goalEnd: 110 * MIB };
}

Deno.test("progress is told as bytes, rate and time left, without what is not known", () => {
  assert.equal(describeProgress(at(25), 5), "25.0 MiB of 100.0 MiB, 5.0 MiB/s, 15 s left");
  assert.equal(describeProgress({ ...at(25), goalEnd: undefined }, 5), "25.0 MiB, 5.0 MiB/s");
  assert.equal(describeProgress(at(0), 5), "0 bytes of 100.0 MiB, 0 bytes/s");
  assert.equal(describeProgress(at(25), 0), "25.0 MiB of 100.0 MiB, 0 bytes/s");
});

Deno.test("the line appears after a second, five times a second at most, and is taken away", () => {
  const host = new TerminalHost();
  {
    using line = new ProgressLine(host);
    const drawn = () => host.written.err.split(CLEAR).slice(1);
    host.clock.advance(999);
    line.show(at(10), "copying");
    assert.equal(host.written.err, "");
    host.clock.advance(1);
    line.show(at(10), "copying");
    assert.deepEqual(drawn(), ["copying: 10.0 MiB of 100.0 MiB, 10.0 MiB/s, 9 s left"]);
    host.clock.advance(199);
    line.show(at(12), "copying");
    assert.equal(drawn().length, 1);
    host.clock.advance(1);
    line.show(at(12), "copying");
    assert.equal(drawn().length, 2);
  }
  assert(host.written.err.endsWith(CLEAR));
  assert.equal(host.written.out, "");
});

Deno.test("what was compared before does not count for the rate of copying", () => {
  const host = new TerminalHost();
  using line = new ProgressLine(host);
  line.show({ end: 0, startEnd: 0, goalEnd: 100 * MIB }, "comparing");
  host.clock.advance(50_000);
  line.show(at(0), "copying");
  host.clock.advance(2_000);
  line.show(at(10), "copying");
  assert(host.written.err.endsWith(`${CLEAR}copying: 10.0 MiB of 100.0 MiB, 5.0 MiB/s, 18 s left`));
});

Deno.test("nothing is drawn where standard error is no terminal", () => {
  const host = new TerminalHost("out");
  {
    using line = new ProgressLine(host);
    host.clock.advance(60_000);
    line.show(at(10), "copying");
  }
  assert.deepEqual(host.written, { out: "", err: "" });
});
