import assert from "node:assert/strict";
import { type Command, parseArguments } from "../../lib/cli/arguments.ts";
import { run } from "../../lib/cli/mod.ts";
import { VERSION } from "../../lib/cli/version.ts";
import { ScriptedHost } from "./scripted_host.ts";

/** Runs a command that ends by itself. */
async function runCaptured(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const host = new ScriptedHost();
  const code = await run(args, host);
  return { code, ...host.written };
}

function parse(...args: string[]): Command | undefined {
  return parseArguments(args, new ScriptedHost());
}

const LOCAL_5000 = { transport: "tcp", host: "127.0.0.1", port: 5000 } as const;

Deno.test("primary takes a database and an address to listen on", () => {
  assert.deepEqual(parse("primary", "Data.fs", "--replicate-to", "5000"), {
    command: "primary",
    dataFs: "Data.fs",
    replicateTo: LOCAL_5000,
    blobDir: undefined,
    blobs: undefined,
    maxSecondaries: 100,
    remember: false,
    compress: "auto",
    bwlimit: undefined,
    control: undefined,
    authFile: undefined,
    tlsCert: undefined,
    tlsKey: undefined,
    tlsCa: undefined,
    readyFile: undefined,
    logFile: undefined,
    quiet: false,
    verbose: false,
  });
});

Deno.test("options stand before or after the database, with a space or an equals sign", () => {
  const expected = parse("primary", "Data.fs", "--replicate-to", "5000", "--blobs", "none", "-q");
  assert.deepEqual(parse("primary", "-q", "--blobs=none", "--replicate-to=5000", "Data.fs"), expected);
  assert.deepEqual(
    parse("primary", "--quiet", "--replicate-to", "5000", "--blobs=none", "--", "Data.fs"),
    expected,
  );
});

Deno.test("secondary takes a copy and where it comes from, and may send it on", () => {
  assert.deepEqual(parse("secondary", "/srv/Data.fs", "--replicate-from", "db1:5000"), {
    command: "secondary",
    dataFs: "/srv/Data.fs",
    replicateFrom: { transport: "tcp", host: "db1", port: 5000 },
    replicateTo: undefined,
    maxSecondaries: 100,
    protocol: "auto",
    applyDelay: 0,
    rewind: "never",
    rewindLimit: 100,
    compress: "auto",
    bwlimit: undefined,
    blobDir: undefined,
    blobs: undefined,
    missingBlobs: undefined,
    keepAlive: 30,
    retryMax: 60,
    name: undefined,
    control: undefined,
    tlsName: undefined,
    authFile: undefined,
    tlsCert: undefined,
    tlsKey: undefined,
    tlsCa: undefined,
    readyFile: undefined,
    logFile: undefined,
    quiet: false,
    verbose: false,
  });
  const all = parse(
    ...["secondary", "/srv/Data.fs", "--replicate-from", "/run/zrs/from", "--replicate-to", "[::]:5001"],
    ...[
      ...["--max-secondaries", "3", "--protocol", "native", "--compress", "off", "--bwlimit", "2M"],
      ...["--apply-delay", "1.5h", "--rewind", "auto", "--rewind-limit", "7"],
      ...["--blob-dir", "blobs", "--blobs", "shared"],
      "--keep-alive",
      "2.5",
      "--retry-max",
      "5",
      ...["--name", "db2"],
      "--control",
      "c",
      ...[
        "--auth-file",
        "secret",
        "--tls-cert",
        "a.crt",
        "--tls-key=a.key",
        "--tls-ca",
        "ca.crt",
        "--tls-name",
        "db1",
      ],
      "--ready-file",
      "r",
      "--log-file",
      "l",
      "-v",
    ],
  );
  assert.deepEqual(all, {
    command: "secondary",
    dataFs: "/srv/Data.fs",
    replicateFrom: { transport: "unix", path: "/run/zrs/from" },
    replicateTo: { transport: "tcp", host: "::", port: 5001 },
    maxSecondaries: 3,
    protocol: "native",
    applyDelay: 5400,
    rewind: "auto",
    rewindLimit: 7,
    compress: "off",
    bwlimit: 2_097_152,
    blobDir: "blobs",
    blobs: "shared",
    missingBlobs: undefined,
    keepAlive: 2.5,
    retryMax: 5,
    name: "db2",
    control: "c",
    tlsName: "db1",
    authFile: "secret",
    tlsCert: "a.crt",
    tlsKey: "a.key",
    tlsCa: "ca.crt",
    readyFile: "r",
    logFile: "l",
    quiet: false,
    verbose: true,
  });
});

Deno.test("status takes a database or a socket, and limits, sizes in units of 1024", () => {
  const plain = parse("status", "/srv/Data.fs");
  assert.deepEqual(plain, {
    command: "status",
    place: "/srv/Data.fs",
    json: false,
    nagios: false,
    maxLag: undefined,
    maxLagBytes: undefined,
  });
  const sizes = [["0", 0], ["65536", 65536], ["64K", 65536], ["1m", 2 ** 20], ["3G", 3 * 2 ** 30]] as const;
  for (const [written, maxLagBytes] of sizes) {
    assert.deepEqual(
      parse("status", "/srv/Data.fs", "--max-lag", "0.5", "--max-lag-bytes", written, "--nagios"),
      { ...plain, maxLag: 0.5, maxLagBytes, nagios: true },
    );
  }
});

Deno.test("a wrong command line exits with 2 and one line that says what to do", async () => {
  const table: readonly (readonly [string[], RegExp])[] = [
    [[], /^zrs: Missing command; see zrs --help\n$/],
    [["primry"], /^zrs: Unexpected command `primry`; did you mean `primary`\?\n$/],
    [["frobnicate"], /^zrs: Unexpected command `frobnicate`; see zrs --help\n$/],
    [["frobnicate", "--help"], /^zrs: .*`frobnicate`; see zrs --help\n$/],
    [["verfy", "Data.fs"], /^zrs: Unexpected command `verfy`; did you mean `verify`\?\n$/],
    [["verify"], /^zrs verify: Missing DATA_FS, the path of the database/],
    [["--versoin"], /^zrs: Unexpected option `--versoin`; did you mean `--version`\?\n$/],
    [["primary"], /^zrs primary: Missing DATA_FS, the path of the database; see zrs primary --help\n$/],
    [["secondary"], /^zrs secondary: Missing DATA_FS, the path of the copy; see zrs secondary --help\n$/],
    [["primary", "x"], /^zrs primary: Missing option `--replicate-to`; see zrs primary --help\n$/],
    [["secondary", "x"], /^zrs secondary: Missing option `--replicate-from`; see zrs secondary --help\n$/],
    [["primary", "", "--replicate-to", "5"], /^zrs primary: `DATA_FS`: .*empty/],
    [
      ["primary", "x", "--replicat-to", "5"],
      /Unexpected option `--replicat-to`; did you mean `--replicate-to`\?\n$/,
    ],
    [["primary", "x", "--replicat-to=5"], /did you mean `--replicate-to`\?\n$/],
    [
      ["primary", "x", "--replicate-to", "5", "y"],
      /^zrs primary: Unexpected argument `y`; see zrs primary --help\n$/,
    ],
    [["primary", "x", "--replicate-to"], /`--replicate-to` requires `ADDR`/],
    [
      ["primary", "x", "--replicate-to", "5", "--replicate-to", "6"],
      /`--replicate-to` cannot be used multiple times/,
    ],
    [["primary", "x", "--replicate-to", "5", "--keep-alive", "3"], /Unexpected option `--keep-alive`; see /],
    [
      ["primary", "x", "--replicate-to", "5", "-q", "-v"],
      /^zrs primary: Cannot be both quiet and verbose; give one/,
    ],
    [
      ["primary", "x", "--replicate-to", "db1"],
      /^zrs primary: `--replicate-to`: Cannot read address "db1": it has no port; write host:port, .*:port for all/,
    ],
    [["secondary", "x", "--replicate-from", ":5"], /names no host to connect to; write host:port/],
    [
      ["primary", "x", "--replicate-to", "5", "--blobs", "replicate"],
      /Cannot replicate blobs without --blob-dir/,
    ],
    [
      ["secondary", "x", "--replicate-from", "5", "--blobs", "shared"],
      /Cannot share blobs without --blob-dir/,
    ],
    [
      ["secondary", "x", "--replicate-from", "5", "--blobs", "none", "--missing-blobs", "mark"],
      /Cannot mark missing blobs where none are replicated/,
    ],
    [
      ["primary", "x", "--replicate-to", "5", "--blobs", "none", "--blob-dir", "b"],
      /Cannot use --blob-dir with --blobs none/,
    ],
    [["primary", "x", "--replicate-to", "5", "--blobs", "nome"], /`--blobs`.*nome/],
    [["primary", "x", "--replicate-to", "5", "--bwlimit", "0"], /bytes a second, such as .*, but got "0"/],
    [["primary", "x", "--replicate-to", "5", "--compress", "yes"], /`--compress`: Expected .*"auto"/],
    [
      ["primary", "x", "--replicate-to", "5", "--max-secondaries", "0"],
      /whole number from 1 on, but got "0"/,
    ],
    [
      ["secondary", "x", "--replicate-from", "5", "--keep-alive", "soon"],
      /seconds from 0.1 to 86400, but got "soon"/,
    ],
    [
      ["secondary", "x", "--replicate-from", "5", "--keep-alive", "0"],
      /seconds from 0.1 to 86400, but got "0"/,
    ],
    [
      ["secondary", "x", "--replicate-from", "5", "--retry-max", "-1"],
      /seconds from 0.1 to 86400, but got "-1"/,
    ],
    [
      ["secondary", "x", "--replicate-from", "5", "--retry-max", "1e9"],
      /seconds from 0.1 to 86400, but got "1e9|1000000000"/,
    ],
    [["status"], /^zrs status: Missing DATA_FS or SOCKET, the path of a node's file or control socket; see /],
    [["status", "x", "--max-lag", "-1"], /seconds from 0 on, but got "-1"/],
    [["status", "x", "--max-lag", "long"], /seconds from 0 on, but got "long"/],
    [
      ["status", "x", "--max-lag-bytes", "1T"],
      /number of bytes, such as 65536, 64K, 10M or 1G, but got "1T"/,
    ],
    [["status", "x", "--max-lag-bytes", "99999999999999G"], /number of bytes, such as/],
    [["status", "x", "--json", "--control", "y"], /Unexpected option `--control`; see zrs status --help/],
    [["completion"], /^zrs completion: Missing shell/],
    [["completion", "foo"], /^zrs completion: Unsupported shell "foo"/],
    [
      ["secondary", "x", "--replicate-from", "localhost:5000", "--replicate-to", ":5000"],
      /^zrs secondary: Cannot replicate from localhost:5000: that is where we listen; give the primary's address/,
    ],
    [
      ["secondary", "x", "--replicate-from", "/run/zrs", "--replicate-to", "/run/zrs"],
      /^zrs secondary: Cannot replicate from \/run\/zrs: that is where we listen/,
    ],
    [
      ["secondary", "x", "--replicate-from", "5", "--protocol", "zrs2", "--rewind", "auto"],
      /^zrs secondary: Cannot rewind by zrs2: .*; give one of --rewind auto and --protocol zrs2/,
    ],
  ];
  for (const [args, expected] of table) {
    const { code, out, err } = await runCaptured(...args);
    assert.match(err, expected);
    assert.deepEqual([code, out, err.indexOf("\n")], [2, "", err.length - 1], args.join(" "));
  }
});

Deno.test("--version prints the version", async () => {
  for (const option of ["--version", "-V"]) {
    assert.deepEqual(await runCaptured(option), { code: 0, out: `zrs ${VERSION}\n`, err: "" });
  }
});

Deno.test("a delay is a number of seconds, minutes, hours or days, up to a year", () => {
  const delayOf = (text: string) => {
    const command = parse("secondary", "/f", "--replicate-from", "1", "--apply-delay", text);
    return command?.command === "secondary" ? command.applyDelay : undefined;
  };
  assert.deepEqual(["0", "90", "30s", "90m", "1h", "7d", "0.5d"].map(delayOf), [
    ...[0, 90, 30, 5400, 3600, 604_800, 43_200],
  ]);
  for (const bad of ["", "h", "-1h", "1 h", "1w", "367d", "1h30m", "1e3"]) {
    assert.throws(() => delayOf(bad), /such as 90s, 30m, 1h or 7d/, bad);
  }
});

Deno.test("--help lists the commands that there are, and how to go on", async () => {
  for (const option of ["--help", "-h"]) {
    const { code, out, err } = await runCaptured(option);
    assert.deepEqual([code, err], [0, ""]);
    assert.match(out, /Usage: zrs COMMAND \.\.\.\n/);
    assert.deepEqual(out.match(/^ {2}\w[\w-]*/gm), [
      "  primary",
      "  secondary",
      "  replica-sync",
      "  status",
      "  log",
      "  rewind",
      "  promote",
      "  verify",
      "  pack",
      "  completion",
    ]);
  }
});

Deno.test("the help of each command has its usage, all its options and an example", async () => {
  const table: readonly (readonly [string, RegExp, readonly string[]])[] = [
    [
      "primary",
      /^Usage: zrs primary DATA_FS --replicate-to ADDR \[OPTION\.\.\.\]$/m,
      [
        "--replicate-to ADDR",
        "--blob-dir DIR",
        "--blobs MODE",
        ...["--max-secondaries N", "--remember", "--compress WHEN", "--bwlimit RATE"],
        "--control PATH",
        "--auth-file FILE",
        ...["--tls-cert FILE", "--tls-key FILE", "--tls-ca FILE"],
        "--ready-file FILE",
        "--log-file FILE",
        "-q, --quiet",
        "-v, --verbose",
      ],
    ],
    [
      "log",
      /^Usage: zrs log DATA_FS \[OPTION\.\.\.\]$/m,
      ["--last N", "--since TIME", "--oid OID", "--pending", "--records", "--json"],
    ],
    [
      "promote",
      /^Usage: zrs promote DATA_FS \[OPTION\.\.\.\]$/m,
      ["--before TIME", "--all", "--control PATH", "--dry-run", "--yes"],
    ],
    [
      "rewind",
      /^Usage: zrs rewind DATA_FS \(--to TID \| --from ADDR\) \[OPTION\.\.\.\]$/m,
      [
        ...["--to TID", "--from ADDR", "--dry-run", "--yes"],
        ...["--auth-file FILE", "--tls-name NAME", "--tls-cert FILE", "--tls-key FILE", "--tls-ca FILE"],
      ],
    ],
    [
      "secondary",
      /^Usage: zrs secondary DATA_FS --replicate-from ADDR \[OPTION\.\.\.\]$/m,
      [
        ...["--replicate-from ADDR", "--replicate-to ADDR", "--max-secondaries N"],
        ...[
          "--protocol NAME",
          "--apply-delay DURATION",
          "--rewind WHEN",
          "--rewind-limit N",
          "--compress WHEN",
          "--bwlimit RATE",
        ],
        ...["--blob-dir DIR", "--blobs MODE", "--missing-blobs MODE", "--keep-alive SECONDS"],
        ...["--retry-max SECONDS", "--name NAME", "--control PATH", "--tls-name NAME"],
        "--auth-file FILE",
        ...["--tls-cert FILE", "--tls-key FILE", "--tls-ca FILE"],
        ...["--ready-file FILE", "--log-file FILE", "-q, --quiet", "-v, --verbose"],
      ],
    ],
    [
      "replica-sync",
      /^Usage: zrs replica-sync SOURCE DATA_FS \[OPTION\.\.\.\]$/m,
      [
        ...["--until TIME", "--repack", "--keep-old", "--check HOW", "--dry-run", "--push"],
        ...["--ask-zeo ADDR", "--settle SECONDS"],
        ...["--protocol NAME", "--compress WHEN", "--bwlimit RATE"],
        ...["--blob-dir DIR", "--blobs MODE", "--source-blob-dir DIR", "--missing-blobs MODE"],
        ...["--ssh COMMAND", "--far-zrs PROGRAM", "--json"],
        ...["--auth-file FILE", "--tls-name NAME", "--tls-cert FILE", "--tls-key FILE", "--tls-ca FILE"],
        ...["--log-file FILE", "-q, --quiet", "-v, --verbose"],
      ],
    ],
    [
      "status",
      /^Usage: zrs status DATA_FS\|SOCKET \[OPTION\.\.\.\]$/m,
      ["--json", "--max-lag SECONDS", "--max-lag-bytes SIZE", "--nagios"],
    ],
    [
      "pack",
      /^Usage: zrs pack DATA_FS \[OPTION\.\.\.\]$/m,
      [
        ...["--days N", "--to TIME", "--no-gc", "--no-keep-old", "--blob-dir DIR"],
        ...["--keep-for N", "--ignore-secondaries", "--control PATH", "--json", "-q, --quiet"],
      ],
    ],
    [
      "verify",
      /^Usage: zrs verify DATA_FS \[OTHER\] \[OPTION\.\.\.\]$/m,
      [
        "--pickles",
        "--refs",
        ...["--blob-dir DIR", "--other-blob-dir DIR"],
        "--max-findings N",
        "--bytes",
        "--digest",
        "--since TID",
        "--to TID",
        "--json",
        "--auth-file FILE",
        "--tls-name NAME",
        "--tls-cert FILE",
        "--tls-key FILE",
        "--tls-ca FILE",
      ],
    ],
  ];
  for (const [command, usage, options] of table) {
    const { code, out, err } = await runCaptured(command, "--help");
    assert.deepEqual([code, err], [0, ""]);
    assert.match(out, usage);
    assert.match(out, new RegExp(`\\nExample:\\n *\`zrs ${command} /`));
    assert.deepEqual(out.match(/^ {2}-.*?(?= {2,})/gm)?.map((line) => line.trim()), options);
    assert(out.split("\n").every((line) => line.length <= 80));
  }
});

Deno.test("completion scripts exist for bash, zsh and fish, and offer what the commands have", async () => {
  for (const shell of ["bash", "zsh", "fish"]) {
    const script = await runCaptured("completion", shell);
    assert.deepEqual([script.code, script.err], [0, ""], shell);
    assert.match(script.out, /zrs/);
    for (
      const [typed, offered] of [["", "secondary"], ["primary x --re", "--replicate-to"], [
        "sec",
        "secondary",
      ]]
    ) {
      const { code, out } = await runCaptured("completion", shell, ...typed!.split(" "));
      assert.equal(code, 0);
      assert(out.includes(offered!), `${shell}: ${typed}`);
    }
    const values = await runCaptured("completion", shell, "primary", "x", "--blobs", "");
    assert.match(values.out, /none/, shell);
  }
});

Deno.test("what is talk goes to standard error, what is asked for to standard output", async () => {
  assert.equal((await runCaptured("--help")).err, "");
  assert.equal((await runCaptured("primry")).out, "");
});
