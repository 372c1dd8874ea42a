import assert from "node:assert/strict";
import { UsageError } from "../../lib/errors.ts";
import { parseMoment } from "../../lib/cli/time.ts";
import { parseTid, tidOfTime } from "../../lib/zodb/mod.ts";

Deno.test("a time with a zone is the moment it says", () => {
  const moment = Date.UTC(2024, 0, 2, 3, 4, 5, 500);
  for (
    const text of [
      "2024-01-02T03:04:05.5Z",
      "2024-01-02 03:04:05.500z",
      "2024-01-02T04:34:05.5+01:30",
      "2024-01-02T04:34:05.5+0130",
      "2024-01-01T22:04:05.5-05",
    ]
  ) {
    assert.equal(parseMoment(text), tidOfTime(moment), text);
  }
  assert.equal(parseMoment("2024-01-02T03:04Z"), tidOfTime(Date.UTC(2024, 0, 2, 3, 4)));
});

Deno.test("a time without a zone is local, a date its first moment", () => {
  assert.equal(parseMoment("2024-07-02T03:04:05"), tidOfTime(new Date(2024, 6, 2, 3, 4, 5).getTime()));
  assert.equal(parseMoment("2024-02-29"), tidOfTime(new Date(2024, 1, 29).getTime()));
});

Deno.test("a tid is a moment, too, and before 1900 is before every transaction", () => {
  assert.equal(parseMoment("03f5945817777777"), parseTid("03f5945817777777"));
  assert.equal(parseMoment("0x03F5945817777777"), parseTid("03f5945817777777"));
  assert.equal(parseMoment("1899-12-31T23:59Z"), 0n);
});

Deno.test("what is no time, or on no calendar, is refused with what is accepted", () => {
  for (
    const text of [
      "",
      "yesterday",
      "2024",
      "2024-1-2",
      "2024-02-30",
      "2023-02-29T00:00",
      "2024-13-01",
      "2024-01-00",
      "2024-01-02T24:01",
      "2024-01-02T03:60",
      "2024-01-02T03",
      "2024-01-02Z",
      "2024-01-02T03:04+1",
      "2024-01-02T03:04:05.5 Z",
      "03f594581777777",
    ]
  ) {
    assert.throws(() => parseMoment(text), (error) => {
      assert(error instanceof UsageError);
      assert.match(error.hint!, /2024-01-31T18:05/);
      return true;
    }, text);
  }
});
