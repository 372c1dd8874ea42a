/** What `zrs status` makes of a node's answer: a screen, limits, a line for Nagios, exit codes. */
import assert from "node:assert/strict";
import { run } from "../../lib/cli/mod.ts";
import { formatBytes, formatDuration } from "../../lib/cli/quantities.ts";
import {
  type PeerAnswer,
  readAnswer,
  type SourceAnswer,
  type StatusAnswer,
} from "../../lib/cli/status/status_answer.ts";
import { formatStatus } from "../../lib/cli/status/status_text.ts";
import { ProtocolError } from "../../lib/errors.ts";
import { TempDirectory } from "../kit/temp.ts";
import { ScriptedHost } from "./scripted_host.ts";

const SOURCE: SourceAnswer = {
  address: "10.0.0.1:5000",
  connected: true,
  since: "2024-01-02T00:04:06.000Z",
  protocol: "zrs2.1",
  receivedTid: "03f5945817777777",
  durableTid: "03f5945817777777",
  lag: { bytes: 0, seconds: 0, against: "received" },
  lastTid: null,
  lastError: null,
  nextAttempt: null,
  packedTo: null,
};

const SECONDARY: StatusAnswer = {
  role: "secondary",
  version: "0.1.0",
  pid: 4711,
  since: "2023-12-30T23:04:06.000Z",
  now: "2024-01-02T03:04:06.000Z",
  path: "/srv/replica/Data.fs",
  lastTid: "03f5945817777777",
  lastTime: "2024-01-02T03:04:05.500Z",
  bytes: 1_610_612_736,
  blobs: "refuse",
  missingBlobs: null,
  problem: null,
  replicateTo: null,
  delay: null,
  source: SOURCE,
  peers: [],
};

const LOST: SourceAnswer = {
  ...SOURCE,
  connected: false,
  since: "2024-01-02T03:02:00.000Z",
  protocol: null,
  lastError: { words: "Cannot connect to 10.0.0.1:5000: connection refused", at: "2024-01-02T03:04:00.000Z" },
  nextAttempt: "2024-01-02T03:04:50.000Z",
};

const LAGGING: SourceAnswer = {
  ...SOURCE,
  receivedTid: "03f5945a00000000",
  lag: { bytes: 3_000_000, seconds: 114.5, against: "received" },
};

function peer(port: number, bytes: number | null, seconds: number | null): PeerAnswer {
  return {
    address: `10.0.0.2:${port}`,
    protocol: "zrs2.1",
    since: "2024-01-02T03:00:00.000Z",
    sentTid: seconds === null ? "0000000000000000" : "03f5945817777777",
    receivedTid: null,
    durableTid: null,
    position: bytes === null ? null : 1_000,
    lag: { bytes, seconds },
  };
}

const PRIMARY: StatusAnswer = {
  ...SECONDARY,
  role: "primary",
  replicateTo: "10.0.0.1:5000",
  source: null,
  peers: [peer(40001, 0, 0), peer(40002, 2048, 75.25), peer(40003, 1_000_000, null)],
};

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs `zrs status` against a socket that gives this answer to whatever is asked. */
async function runStatus(answer: unknown, ...options: string[]): Promise<Ran> {
  await using directory = await TempDirectory.make();
  const path = directory.join("socket");
  const listener = Deno.listen({ transport: "unix", path });
  const answering = (async () => {
    using connection = await listener.accept();
    await connection.read(new Uint8Array(1024));
    await connection.write(new TextEncoder().encode(`${JSON.stringify(answer)}\n`));
  })();
  const host = new ScriptedHost();
  const code = await run(["status", path, ...options], host);
  await answering;
  listener.close();
  return { code, ...host.written };
}

Deno.test("a secondary's screen says what it has, where from, and what is not known", () => {
  assert.equal(
    formatStatus({ ...SECONDARY, replicateTo: "127.0.0.1:5001" }),
    [
      "secondary  zrs 0.1.0, process 4711, up 2 d 4 h",
      "file       /srv/replica/Data.fs, 1.5 GiB",
      "last       03f5945817777777, written 2024-01-02T03:04:05.500Z (0.5 s ago)",
      "source     10.0.0.1:5000, connected for 3 h, zrs2.1",
      "           all that was received is on disk",
      "           (zrs2.1 does not tell what else the source has)",
      "serves     no secondary, at 127.0.0.1:5001",
      "",
    ].join("\n"),
  );
});

Deno.test("a secondary that was told to go on without some blobs says each time how many are missing", () => {
  const text = formatStatus({ ...SECONDARY, blobs: "replicate", missingBlobs: 2 });
  assert.match(text, /\nBLOBS +2 MISSING: .*\/srv\/replica\/Data\.fs\.missing-blobs lists them\n/);
  assert.match(formatStatus({ ...SECONDARY, blobs: "replicate", missingBlobs: 0 }), /\nblobs +replicated\n/);
});

Deno.test("a secondary without its source says since when, why, and when it tries again", () => {
  assert.equal(
    formatStatus({ ...SECONDARY, lastTid: "0000000000000000", lastTime: null, blobs: "none", source: LOST }),
    [
      "secondary  zrs 0.1.0, process 4711, up 2 d 4 h",
      "file       /srv/replica/Data.fs, 1.5 GiB",
      "last       no transaction yet",
      "BLOBS      left out (--blobs none): records without their files",
      "source     10.0.0.1:5000, NOT CONNECTED for 2 min 6 s, trying again in 44 s",
      "           last error 6 s ago: Cannot connect to 10.0.0.1:5000: connection refused",
      "           all that was received is on disk",
      "           (the source may have more)",
      "",
    ].join("\n"),
  );
  assert.match(formatStatus({ ...SECONDARY, source: { ...LOST, nextAttempt: null } }), /, connecting now\n/);
});

Deno.test("a secondary whose source has packed its file says up to where, connected or not", () => {
  const packedTo = "03f5945817777777";
  for (const source of [SOURCE, LOST]) {
    assert.match(
      formatStatus({ ...SECONDARY, source: { ...source, packedTo } }),
      /^ {11}packed there up to 03f5945817777777 \(2024-01-02T03:04:05\.500Z\)$/m,
    );
  }
});

Deno.test("a secondary whose source is behind it says that nothing comes until that has changed", () => {
  const source = { ...SOURCE, protocol: "native", lag: { bytes: 0, seconds: 0, against: "source" } };
  for (
    const [lastTid, words] of [
      ["03f5941c17777777", "ends with 03f5941c17777777, before this copy"],
      ["0000000000000000", "has nothing yet"],
    ] as const
  ) {
    const text = formatStatus({ ...SECONDARY, source: { ...source, lastTid } });
    assert.ok(text.includes(`IT ${words}: nothing comes from it until it has caught up\n`), text);
  }
  const { durableTid } = source;
  assert.match(
    formatStatus({ ...SECONDARY, source: { ...source, lastTid: durableTid } }),
    /all that there is/,
  );
});

Deno.test("a secondary that cannot write says what it holds back, and its problem", () => {
  const text = formatStatus({ ...SECONDARY, problem: "the disk is full", source: LAGGING });
  assert.match(text, /^PROBLEM {4}the disk is full$/m);
  assert.match(
    text,
    /^ {11}1 min 55 s, 2\.9 MiB behind what was received, up to 03f5945a00000000$/m,
  );
});

const DELAYED: StatusAnswer = {
  ...SECONDARY,
  delay: {
    seconds: 3600,
    appliedTid: "03f5941c17777777",
    appliedTime: "2024-01-02T02:04:05.500Z",
    appliedBytes: 1_610_612_736 - 2_097_152,
    waitingBytes: 2_097_152,
    nextDue: "2024-01-02T03:05:00.000Z",
  },
};

Deno.test("a secondary with a delay says what it has received and applied, and what waits until when", async () => {
  const lines = formatStatus(DELAYED).split("\n");
  assert.deepEqual(lines.slice(2, 5), [
    "received   03f5945817777777, written 2024-01-02T03:04:05.500Z (0.5 s ago)",
    "applied    03f5941c17777777, written 2024-01-02T02:04:05.500Z (1 h ago)",
    "           2.0 MiB wait, the next is due in 54 s (--apply-delay 1 h)",
  ]);
  const nothing = { ...DELAYED.delay!, waitingBytes: 0, nextDue: null };
  assert.match(formatStatus({ ...DELAYED, delay: nothing }), /\n +nothing waits \(--apply-delay 1 h\)\n/);
  const { code } = await runStatus(DELAYED, "--max-lag", "60", "--max-lag-bytes", "1K");
  assert.equal(code, 0, "what waits on purpose is no lag");
});

Deno.test("a transaction that is dated more than the delay ahead is told of", () => {
  const ahead = (lastTime: string) => /DATED .* AHEAD/.exec(formatStatus({ ...DELAYED, lastTime }))?.[0];
  assert.equal(ahead("2024-01-02T04:04:06.000Z"), undefined);
  assert.equal(ahead("2024-01-02T05:04:06.000Z"), "DATED 2 h AHEAD");
});

Deno.test("a primary's screen shows its secondaries, the farthest behind first, and no more than fit", () => {
  assert.equal(
    formatStatus(PRIMARY),
    [
      "primary  zrs 0.1.0, process 4711, up 2 d 4 h",
      "file     /srv/replica/Data.fs, 1.5 GiB",
      "last     03f5945817777777, written 2024-01-02T03:04:05.500Z (0.5 s ago)",
      "serves   3 secondaries, at 10.0.0.1:5000",
      "         ADDRESS         PROTOCOL  CONNECTED FOR  LAST SENT         BEHIND",
      "         10.0.0.2:40003  zrs2.1    4 min 6 s      nothing yet       976.6 KiB",
      "         10.0.0.2:40002  zrs2.1    4 min 6 s      03f5945817777777  1 min 15 s, 2.0 KiB",
      "         10.0.0.2:40001  zrs2.1    4 min 6 s      03f5945817777777  nothing",
      "",
    ].join("\n"),
  );
  const many = formatStatus({
    ...PRIMARY,
    peers: Array.from({ length: 90 }, (_, i) => peer(40_000 + i, i, 1)),
  });
  assert(many.split("\n").length < 24);
  assert.match(many, /^ +10\.0\.0\.2:40089 /m);
  assert.match(many, /^ +and 78 more; --json shows all$/m);
});

Deno.test("what a peer has said cannot talk to the terminal", () => {
  const words = "refused: \x1b[2J\nsource  fine";
  const text = formatStatus({ ...SECONDARY, source: { ...LOST, lastError: { words, at: LOST.since } } });
  assert.match(text, /refused: \\x1b\[2J\\x0asource {2}fine/);
});

Deno.test("without limits the exit code is 0 whatever the node says", async () => {
  const { code, out, err } = await runStatus({ ...SECONDARY, source: LOST });
  assert.deepEqual([code, err], [0, ""]);
  assert.match(out, /NOT CONNECTED/);
});

Deno.test("--json prints the object as it came, also what a later version has added", async () => {
  const answer = { ...SECONDARY, later: { more: [1] } };
  const { code, out, err } = await runStatus(answer, "--json");
  assert.deepEqual([code, out, err], [0, `${JSON.stringify(answer)}\n`, ""]);
});

const LIMITS: readonly (readonly [what: string, StatusAnswer, options: string, passed: RegExp[]])[] = [
  [
    "a secondary at its limit",
    { ...SECONDARY, source: LAGGING },
    "--max-lag 114.5 --max-lag-bytes 3000000",
    [],
  ],
  [
    "a secondary beyond its limit",
    { ...SECONDARY, source: LAGGING },
    "--max-lag 114",
    [/^zrs status: --max-lag 114 passed: \/srv\/replica\/Data\.fs is 1 min 55 s behind$/],
  ],
  [
    "a secondary beyond both limits",
    { ...SECONDARY, source: LAGGING },
    "--max-lag 60 --max-lag-bytes 1M",
    [/--max-lag 60 passed: /, /--max-lag-bytes 1048576 passed: .* is 2\.9 MiB behind$/],
  ],
  [
    "a secondary that is not connected, though nothing is known to be missing",
    { ...SECONDARY, source: LOST },
    "--max-lag 3600",
    [/--max-lag 3600 passed: not connected to 10\.0\.0\.1:5000 since 2024-01-02T03:02:00.000Z: .*refused$/],
  ],
  [
    "a node with a problem",
    { ...PRIMARY, peers: [], problem: "Data.fs cannot be read" },
    "--max-lag-bytes 1G",
    [/--max-lag-bytes 1073741824 passed: the primary cannot go on: Data\.fs cannot be read$/],
  ],
  ["a primary without secondaries", { ...PRIMARY, peers: [] }, "--max-lag 0", []],
  [
    "a primary with secondaries beyond the limit, and one whose lag is not known",
    PRIMARY,
    "--max-lag 60",
    [/10\.0\.0\.2:40002 is 1 min 15 s behind$/, /10\.0\.0\.2:40003 is behind, by what is not known$/],
  ],
  [
    "a chained secondary by its own lag only",
    { ...SECONDARY, peers: PRIMARY.peers },
    "--max-lag 0 --max-lag-bytes 0",
    [],
  ],
];

for (const [what, status, options, passed] of LIMITS) {
  Deno.test(`limits: ${what}`, async () => {
    const { code, out, err } = await runStatus(status, ...options.split(" "));
    assert.equal(out, formatStatus(status));
    const lines = err.split("\n").slice(0, -1);
    assert.deepEqual([code, lines.length], [passed.length === 0 ? 0 : 1, passed.length], err);
    for (const [index, line] of lines.entries()) assert.match(line, passed[index]!);
    const inJson = await runStatus(status, ...options.split(" "), "--json");
    assert.deepEqual(inJson, { code, out: `${JSON.stringify(status)}\n`, err });
  });
}

const NAGIOS:
  readonly (readonly [what: string, StatusAnswer, options: string, code: number, line: string])[] = [
    [
      "a secondary that is well",
      SECONDARY,
      "--max-lag 60 --max-lag-bytes 1K",
      0,
      "ZRS OK - secondary of 10.0.0.1:5000, 0 s behind what was received, last transaction 0.5 s ago | " +
      "lag=0s;;60 lag_bytes=0B;;1024 age=0.5s bytes=1610612736B peers=0",
    ],
    [
      "a secondary beyond its limit",
      { ...SECONDARY, source: LAGGING },
      "--max-lag 60",
      2,
      "ZRS CRITICAL - /srv/replica/Data.fs is 1 min 55 s behind (--max-lag 60) | " +
      "lag=114.5s;;60 lag_bytes=3000000B age=0.5s bytes=1610612736B peers=0",
    ],
    [
      "a secondary that is not connected, also without limits, and whose lag is then not known",
      { ...SECONDARY, source: { ...LOST, lastError: { words: "a | b\nc", at: LOST.since } } },
      "",
      2,
      "ZRS CRITICAL - not connected to 10.0.0.1:5000 since 2024-01-02T03:02:00.000Z: a / b\\x0ac | " +
      "lag=U lag_bytes=U age=0.5s bytes=1610612736B peers=0",
    ],
    [
      "a primary, by its farthest secondary",
      { ...PRIMARY, peers: PRIMARY.peers.slice(0, 2) },
      "",
      0,
      "ZRS OK - primary with 2 secondaries, last transaction 0.5 s ago | " +
      "lag=75.25s lag_bytes=2048B age=0.5s bytes=1610612736B peers=2",
    ],
    [
      "an empty primary that cannot read on, and a secondary of which nothing is known",
      { ...PRIMARY, lastTime: null, problem: "it is gone", peers: [peer(40003, null, null)] },
      "",
      2,
      "ZRS CRITICAL - the primary cannot go on: it is gone | " +
      "lag=U lag_bytes=U age=U bytes=1610612736B peers=1",
    ],
  ];

for (const [what, status, options, expected, line] of NAGIOS) {
  Deno.test(`Nagios: ${what}`, async () => {
    const { code, out, err } = await runStatus(status, "--nagios", ...options.split(" ").filter(Boolean));
    assert.deepEqual([out, err, code], [`${line}\n`, "", expected]);
  });
}

Deno.test("Nagios: no node is critical, a check that cannot be made unknown, and the line says which", async () => {
  await using directory = await TempDirectory.make();
  const data = directory.join("Data.fs");
  const table: readonly (readonly [args: string[], code: number, line: RegExp])[] = [
    [[data, "--nagios"], 2, /^ZRS CRITICAL - Cannot ask about .*Data\.fs: no node listens at .*; start zrs/],
    [[data, "--nagios", "--max-lag", "soon"], 3, /^ZRS UNKNOWN - .*but got "soon"; see zrs status --help/],
    [["--nagios"], 3, /^ZRS UNKNOWN - Missing DATA_FS/],
    [[data, "--nagios", "--json"], 3, /^ZRS UNKNOWN - Cannot print both/],
  ];
  for (const [args, code, line] of table) {
    const host = new ScriptedHost();
    assert.equal(await run(["status", ...args], host), code);
    assert.match(host.written.out, line);
    assert.equal(host.written.out.indexOf("\n"), host.written.out.length - 1);
    assert.equal(host.written.err, "");
  }
  const { code, out } = await runStatus({ status: "fine" }, "--nagios");
  assert.equal(code, 3);
  assert.match(out, /^ZRS UNKNOWN - Cannot understand the node's status: role is not as expected; ask with/);
});

Deno.test("where nobody listens the exit code is 4, and the message says what to do", async () => {
  await using directory = await TempDirectory.make();
  const data = directory.join("Data.fs");
  await Deno.writeTextFile(data, "FS30");
  async function ask(path: string): Promise<string> {
    const host = new ScriptedHost();
    assert.deepEqual([await run(["status", path], host), host.written.out], [4, ""]);
    return host.written.err;
  }
  assert.match(
    await ask(data),
    /^zrs status: Cannot ask about .*: no node listens at .*Data\.fs\.zrs; start zrs sec/,
  );
  await Deno.writeTextFile(`${data}.zrs`, "no socket");
  assert.match(await ask(data), /no node listens/);
  await Deno.remove(`${data}.zrs`);
  // A listener leaves its file at the name that it has got meanwhile.
  const listener = Deno.listen({ transport: "unix", path: directory.join("new") });
  await Deno.rename(directory.join("new"), `${data}.zrs`);
  listener.close();
  for (const path of [data, `${data}.zrs`]) {
    assert.match(
      await ask(path),
      /^zrs status: Cannot connect to .*Data\.fs\.zrs: connection refused; start the node/,
    );
  }
});

Deno.test("an answer that is not as documented is named by its first wrong field", () => {
  const whole = JSON.parse(JSON.stringify(PRIMARY));
  assert.deepEqual(readAnswer(whole), PRIMARY);
  const wrong: readonly (readonly [field: string, value: unknown])[] = [
    ...Object.keys(SECONDARY).map((name) => [name, undefined] as const),
    ["bytes", -1],
    ["bytes", "12"],
    ["lastTid", "3f5"],
    ["since", "yesterday"],
    ["source", {}],
    ["source", { ...SOURCE, connected: "yes" }],
    ["source", { ...SOURCE, lastError: {} }],
    ["source", { ...SOURCE, packedTo: "long ago" }],
    ["peers", {}],
    ["peers", [{ ...PRIMARY.peers[0], lag: null }]],
  ];
  for (const [field, value] of wrong) {
    assert.throws(() => readAnswer({ ...whole, [field]: value }), (error: unknown) => {
      return error instanceof ProtocolError && error.message.includes(` ${field} is not as expected`);
    }, `${field} ${JSON.stringify(value)}`);
  }
});

Deno.test("sizes and times read well over their whole range", () => {
  const sizes: readonly (readonly [number, string])[] = [
    [0, "0 bytes"],
    [1, "1 byte"],
    [1023, "1023 bytes"],
    [1024, "1.0 KiB"],
    [2 ** 20 - 1, "1.0 MiB"],
    [1.5 * 2 ** 30, "1.5 GiB"],
    [2 ** 50, "1.0 PiB"],
    [Number.MAX_SAFE_INTEGER, "8.0 PiB"],
  ];
  for (const [bytes, text] of sizes) assert.equal(formatBytes(bytes), text);
  const times: readonly (readonly [number, string])[] = [
    [0, "0 s"],
    [0.0001, "0.1 s"],
    [0.44, "0.4 s"],
    [1, "1 s"],
    [9.94, "9.9 s"],
    [9.96, "10 s"],
    [59.4, "59 s"],
    [59.6, "1 min"],
    [3_599.6, "1 h"],
    [3_725, "1 h 2 min"],
    [86_400, "1 d"],
    [400 * 86_400 + 7_200, "400 d 2 h"],
  ];
  for (const [seconds, text] of times) assert.equal(formatDuration(seconds), text);
});
