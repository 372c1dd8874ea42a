import assert from "node:assert/strict";
import { formatSourceUrl, isSourceUrl, parseSourceUrl } from "../../lib/cli/sync/source_url.ts";
import { UsageError } from "../../lib/errors.ts";
import type { Address } from "../../lib/ports/mod.ts";

function tcp(host: string, port: number): Address {
  return { transport: "tcp", host, port };
}

function unix(path: string): Address {
  return { transport: "unix", path };
}

Deno.test("a source is zrs://host:port or zrs+unix:path, and is written as it is read", () => {
  const accepted: readonly (readonly [string, Address, string?])[] = [
    ["zrs://db1.example.com:5000", tcp("db1.example.com", 5000)],
    ["zrs://db1:5000/", tcp("db1", 5000), "zrs://db1:5000"],
    ["ZRS://192.0.2.1:1", tcp("192.0.2.1", 1), "zrs://192.0.2.1:1"],
    ["zrs://[::1]:5000", tcp("::1", 5000)],
    ["zrs+unix:/run/zrs/primary.sock", unix("/run/zrs/primary.sock")],
    ["zrs+unix:///run/a b", unix("/run/a b"), "zrs+unix:/run/a b"],
    ["zrs+unix:sock", unix("./sock"), "zrs+unix:./sock"],
    ["zrs+unix:run/a:b", unix("run/a:b")],
  ];
  for (const [text, address, written = text] of accepted) {
    assert(isSourceUrl(text), text);
    assert.deepEqual(parseSourceUrl(text), address, text);
    assert.equal(formatSourceUrl(address), written);
  }
});

Deno.test("a source with a typo is refused with what is wrong and what is accepted", () => {
  const refused: readonly (readonly [string, RegExp])[] = [
    ["zrs:", /\/\/ must follow zrs:/],
    ["zrs:db1:5000", /\/\/ must follow zrs:/],
    ["zrs://", /it has no port/],
    ["zrs://5000", /it has no port/],
    ["zrs://db1", /it has no port/],
    ["zrs://:5000", /names no host/],
    ["zrs://db1:0", /port 0/],
    ["zrs://db1:70000", /from 0 to 65535/],
    ["zrs://::1:5000", /needs brackets/],
    ["zrs://db1:5000/Data.fs", /nothing may follow the port/],
    ["zrs://db1:5000?x", /nothing may follow the port/],
    ["zrs://admin@db1:5000", /no users/],
    ["zrs+tls://db1:5000", /scheme must be zrs or zrs\+unix/],
    ["zrs+unix:", /names no socket/],
    ["zrs+unix://db1/run/sock", /a socket has no host/],
    ["zrs+unix:/run/", /does not end in a \//],
    [`zrs+unix:/${"x".repeat(200)}`, /at most 107 bytes/],
  ];
  for (const [text, problem] of refused) {
    assert(isSourceUrl(text), text);
    assert.throws(() => parseSourceUrl(text), (error: unknown) => {
      assert(error instanceof UsageError);
      assert.match(error.message, /^Cannot read source "/);
      assert.match(error.message, problem, text);
      assert.match(error.hint ?? "", /^Write zrs:\/\/host:port/);
      return true;
    });
  }
});

Deno.test("paths and other schemes are no running nodes", () => {
  for (const text of ["Data.fs", "./zrs:x", "/srv/zrs://db1:1", "db1:Data.fs", "ssh://db1/x", "zrsx:1", ""]) {
    assert(!isSourceUrl(text), text);
  }
});
