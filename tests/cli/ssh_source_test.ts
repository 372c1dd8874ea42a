import assert from "node:assert/strict";
import fc from "fast-check";
import {
  formatSshTarget,
  parseSshTarget,
  splitCommand,
  sshArguments,
  type SshTarget,
} from "../../lib/cli/sync/ssh_source.ts";
import { UsageError } from "../../lib/errors.ts";

function target(host: string, path: string, more: Partial<SshTarget> = {}): SshTarget {
  return { user: undefined, port: undefined, ...more, host, path };
}

Deno.test("a colon before any slash ends a host's name, as for scp", () => {
  const cases: [text: string, expected: SshTarget][] = [
    ["db1:/srv/Data.fs", target("db1", "/srv/Data.fs")],
    ["zope@db1:var/Data.fs", target("db1", "var/Data.fs", { user: "zope" })],
    ["db1:a:b", target("db1", "a:b")],
    ["db1:./5000", target("db1", "./5000")],
    ["zope@db1:5000", target("db1", "5000", { user: "zope" })],
    ["db1:~/Data.fs", target("db1", "Data.fs")],
    ["db1:~zope/Data.fs", target("db1", "~zope/Data.fs")],
    ["db1:-f", target("db1", "-f")],
    ["db1:with space\nand 'quotes'", target("db1", "with space\nand 'quotes'")],
    ["me@example.com@db1:f", target("db1", "f", { user: "me@example.com" })],
    ["[::1]:/Data.fs", target("::1", "/Data.fs")],
    ["zope@[fe80::1%eth0]:Data.fs", target("fe80::1%eth0", "Data.fs", { user: "zope" })],
  ];
  for (const [text, expected] of cases) assert.deepEqual(parseSshTarget(text), expected, text);
});

Deno.test("a URL has user, port, and a path from the root or from home", () => {
  const cases: [text: string, expected: SshTarget][] = [
    ["ssh://db1/srv/Data.fs", target("db1", "/srv/Data.fs")],
    ["SSH://zope@db1:2222/srv/Data.fs", target("db1", "/srv/Data.fs", { user: "zope", port: 2222 })],
    ["ssh://db1/~/var/Data.fs", target("db1", "var/Data.fs")],
    ["ssh://db1/~zope/Data.fs", target("db1", "~zope/Data.fs")],
    ["ssh://db1/a%20b%25", target("db1", "/a b%")],
    ["ssh://[::1]:22/Data.fs", target("::1", "/Data.fs", { port: 22 })],
  ];
  for (const [text, expected] of cases) assert.deepEqual(parseSshTarget(text), expected, text);
});

Deno.test("paths of this machine, and other URLs, are none", () => {
  for (
    const text of ["Data.fs", "/srv/a:b", "./a:b", "../a:b", "dir/a:b", ":a", "zrs://db1:5000", "", "[x"]
  ) {
    assert.equal(parseSshTarget(text), undefined, text);
  }
});

Deno.test("what names no file, no host or no user is refused, and so is what ssh would take for an option", () => {
  const cases: [text: string, words: RegExp][] = [
    ["db1:", /names no file/],
    ["db1:~", /names no file/],
    ["db1:dir/", /names no file/],
    ["db1:5000", /"db1:5000": that may be a node or a file$/],
    ["[::1]:5000", /may be a node or a file/],
    ["ssh://db1", /names no file/],
    ["ssh://db1/", /names no file/],
    ["ssh:///srv/Data.fs", /names no host/],
    ["zope@:f", /names no host/],
    ["@db1:f", /no user's name/],
    ["-oProxyCommand=id:f", /no host's name/],
    ["-l@db1:f", /no user's name/],
    ["ssh://-oProxyCommand=id/f", /no host's name/],
    ["a b:f", /no host's name/],
    ["$(id):f", /no host's name/],
    ["ssh://db1:0/f", /port must be/],
    ["ssh://db1:99999/f", /port must be/],
    ["ssh://db1:x/f", /port must be/],
    ["ssh://zope:secret@db1/f", /password/],
    ["ssh://db1/%zz", /hexadecimal/],
    ["ssh://db1/a%00", /zero byte/],
  ];
  for (const [text, words] of cases) {
    assert.throws(
      () => parseSshTarget(text),
      (error) => error instanceof UsageError && words.test(error.message) && error.hint !== undefined,
      text,
    );
  }
});

Deno.test("a target is written as it is read", () => {
  for (
    const text of [
      "db1:/srv/Data.fs",
      "zope@[::1]:x y",
      "ssh://zope@db1:2222/srv/Data.fs",
      "ssh://[::1]:22/~/x",
    ]
  ) {
    assert.equal(formatSshTarget(parseSshTarget(text)!), text);
  }
});

Deno.test("a command is cut into words as a shell does it", () => {
  assert.deepEqual(splitCommand("ssh"), ["ssh"]);
  assert.deepEqual(splitCommand("  ssh  -p 2222\n-i '/my keys/id' "), [
    "ssh",
    "-p",
    "2222",
    "-i",
    "/my keys/id",
  ]);
  const odd = String.raw`a"b c"'d e'f\ g "" "\"\x" '\'`;
  assert.deepEqual(splitCommand(odd), ["ab cd ef g", "", String.raw`"\x`, "\\"]);
  for (const text of ["", "  ", "''", "ssh 'x", 'ssh "x', "ssh x\\"]) {
    assert.throws(() => splitCommand(text), UsageError, text);
  }
});

Deno.test("whatever is quoted for a shell is the same word again", () => {
  fc.assert(fc.property(fc.array(fc.string(), { minLength: 1 }), (words) => {
    const quoted = words.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(" ");
    assert.deepEqual(splitCommand(`ssh ${quoted}`), ["ssh", ...words]);
  }));
});

Deno.test("ssh is told not to ask where nobody could answer, and starts a shell of every login shell", () => {
  const place = target("db1", "/srv/Data.fs", { user: "zope", port: 2222 });
  const silent = sshArguments(place, { mayAsk: false });
  assert.ok(silent.includes("BatchMode=yes"));
  assert.ok(!sshArguments(place, { mayAsk: true }).includes("BatchMode=yes"));
  assert.deepEqual(silent.slice(-4), ["-p", "2222", "zope@db1", "exec sh"]);
});
