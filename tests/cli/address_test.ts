import assert from "node:assert/strict";
import fc from "fast-check";
import { type AddressUse, leadsToItself, parseAddress } from "../../lib/cli/address.ts";
import { UsageError } from "../../lib/errors.ts";
import { formatAddress, isThisMachineOnly } from "../../lib/ports/mod.ts";
import type { Address } from "../../lib/ports/mod.ts";

function tcp(host: string, port: number): Address {
  return { transport: "tcp", host, port };
}

function unix(path: string): Address {
  return { transport: "unix", path };
}

function complaint(text: string, use: AddressUse): string {
  try {
    return `accepted as ${formatAddress(parseAddress(text, use))}`;
  } catch (error) {
    assert(error instanceof UsageError);
    assert.match(error.hint ?? "", /^Write host:port, /);
    return error.message;
  }
}

Deno.test("an address is host:port, [v6]:port, a port of this machine, or a path with a slash", () => {
  const accepted: readonly (readonly [string, Address])[] = [
    ["db1.example.com:5000", tcp("db1.example.com", 5000)],
    ["db_1:5000", tcp("db_1", 5000)],
    ["localhost:5000", tcp("localhost", 5000)],
    ["192.0.2.1:65535", tcp("192.0.2.1", 65535)],
    ["[::1]:5000", tcp("::1", 5000)],
    ["[2001:db8::7]:1", tcp("2001:db8::7", 1)],
    ["[fe80::1%eth0]:5000", tcp("fe80::1%eth0", 5000)],
    ["5000", tcp("127.0.0.1", 5000)],
    ["/run/zrs/primary.sock", unix("/run/zrs/primary.sock")],
    ["./sock", unix("./sock")],
    ["run/a:b", unix("run/a:b")],
    ["/with space", unix("/with space")],
  ];
  for (const [text, address] of accepted) {
    assert.deepEqual(parseAddress(text, "listen"), address, text);
    assert.deepEqual(parseAddress(text, "connect"), address, text);
  }
});

Deno.test("a listener may take all interfaces or any free port, a connection may not", () => {
  assert.deepEqual(parseAddress(":5000", "listen"), tcp("::", 5000));
  assert.deepEqual(parseAddress("[::]:5000", "listen"), tcp("::", 5000));
  assert.deepEqual(parseAddress("0", "listen"), tcp("127.0.0.1", 0));
  assert.deepEqual(parseAddress(":0", "listen"), tcp("::", 0));
  assert.match(complaint(":5000", "connect"), /names no host/);
  assert.match(complaint("0", "connect"), /port 0/);
  assert.match(complaint("db1:0", "connect"), /port 0/);
});

Deno.test("an address with a typo is refused with what is wrong and what is accepted", () => {
  const refused: readonly (readonly [string, RegExp])[] = [
    ["", /it is empty/],
    ["db1", /it has no port/],
    ["db1.example.com", /it has no port/],
    ["5o00", /it has no port/],
    ["-1", /it has no port/],
    ["db1:", /port must be a number from 0 to 65535, and is ""/],
    ["db1:5o00", /port must be a number .* is "5o00"/],
    ["db1:65536", /port must be a number .* is "65536"/],
    ["db1: 5000", /port must be a number/],
    ["db1:+5000", /port must be a number/],
    ["65536", /port must be a number/],
    ["99999999999999999999", /port must be a number/],
    ["db1;5000", /it has no port/],
    ["db 1:5000", /"db 1" is no host's name/],
    [" db1:5000", /" db1" is no host's name/],
    ["db1:5000:5000", /"db1:5000" is no host's name/],
    ["-db1:5000", /no host's name/],
    ["*:5000", /no host's name/],
    ["10.0.0.300:5000", /10\.0\.0\.300 is no address of IP version 4/],
    ["10.0.1:5000", /no address of IP version 4/],
    ["::1:5000", /needs brackets/],
    ["::1", /needs brackets/],
    ["2001:db8::1", /needs brackets/],
    ["[::1]", /needs brackets|no host's name|port/],
    ["[::1]5000", /port|host/],
    ["[::g]:5000", /"::g" is no address of IP version 6/],
    ["[db1]:5000", /"db1" is no address of IP version 6/],
    ["[]:5000", /"" is no address of IP version 6/],
    ["http://db1:5000", /it is a URL/],
    ["zrs://db1:5000", /it is a URL/],
    ["db1:5000/", /does not end in a \//],
    [`/${"x".repeat(107)}`, /at most 107 bytes, this one has 108/],
    ["db1:5000\n", /port must be a number/],
  ];
  for (const [text, expected] of refused) {
    assert.match(complaint(text, "listen"), expected, JSON.stringify(text));
    assert.match(complaint(text, "connect"), expected, JSON.stringify(text));
  }
});

Deno.test("an address reads back as it was written", () => {
  const port = fc.integer({ min: 1, max: 65535 });
  const host = fc.oneof(fc.ipV4(), fc.ipV6().map((address) => address.toLowerCase()), fc.domain());
  const address = fc.oneof(
    fc.tuple(host, port).map(([host, port]) => tcp(host, port)),
    fc.stringMatching(/^\/[a-z0-9 :.[\]-]{1,90}$/).map(unix),
  );
  fc.assert(
    fc.property(address, (expected) => {
      assert.deepEqual(parseAddress(formatAddress(expected), "listen"), expected);
    }),
  );
});

Deno.test("any text is an address or refused as usage", () => {
  const text = fc.oneof(fc.string({ unit: "binary" }), fc.stringMatching(/^[[\]:.0-9a-f%/ ]*$/));
  fc.assert(
    fc.property(text, fc.constantFrom("listen" as const, "connect" as const), (text, use) => {
      complaint(text, use);
    }),
    { numRuns: 1000 },
  );
});

Deno.test("loopback addresses and Unix sockets are for this machine only", () => {
  for (const host of ["127.0.0.1", "127.8.0.1", "::1", "localhost", "LocalHost"]) {
    assert.equal(isThisMachineOnly(tcp(host, 1)), true, host);
  }
  assert.equal(isThisMachineOnly(unix("/run/s")), true);
  for (const host of ["0.0.0.0", "::", "192.0.2.1", "db1", "127.example.com", "localhost.example.com"]) {
    assert.equal(isThisMachineOnly(tcp(host, 1)), false, host);
  }
});

Deno.test("an address leads to our own listener by the same name, or over loopback", () => {
  const table: readonly (readonly [to: Address, at: Address, boolean])[] = [
    [tcp("127.0.0.1", 5000), tcp("127.0.0.1", 5000), true],
    [tcp("localhost", 5000), tcp("127.0.0.1", 5000), true],
    [tcp("127.0.0.1", 5000), tcp("0.0.0.0", 5000), true],
    [tcp("::1", 5000), tcp("::", 5000), true],
    [tcp("DB1", 5000), tcp("db1", 5000), true],
    [unix("/run/a"), unix("/run/a"), true],
    [tcp("127.0.0.1", 5000), tcp("127.0.0.1", 5001), false],
    [tcp("db1", 5000), tcp("0.0.0.0", 5000), false],
    [tcp("127.0.0.1", 5000), tcp("192.0.2.1", 5000), false],
    [unix("/run/a"), unix("/run/b"), false],
    [unix("/run/a"), tcp("127.0.0.1", 5000), false],
    [tcp("127.0.0.1", 5000), unix("/run/a"), false],
  ];
  for (const [to, at, expected] of table) {
    assert.equal(leadsToItself(to, at), expected, `${formatAddress(to)} at ${formatAddress(at)}`);
  }
});
