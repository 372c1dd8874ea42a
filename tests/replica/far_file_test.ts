/** Reading a file through a shell, with the tools it has. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { NotFoundError, ProtocolError, UnavailableError, UsageError } from "../../lib/errors.ts";
import { FarFile } from "../../lib/replica/far/far_file.ts";
import { FarReplacedError } from "../../lib/replica/far/far_shell.ts";
import { beforeDeadline } from "../kit/feed.ts";
import { assertSameBytes } from "../kit/same_bytes.ts";
import { TempDirectory } from "../kit/temp.ts";
import { reach, type ReachOptions, SHELLS } from "./far_kit.ts";

/** No stretch of it is like another. */
function content(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = 1;
  for (let at = 0; at < length; at++) bytes[at] = (state = (state * 48271) % 0x7fffffff) >>> 8;
  return bytes;
}

const BLOCK = 64 * 1024;

for (const command of SHELLS) {
  Deno.test(`any stretch of a file is read as it is: ${command.join(" ")}`, async () => {
    await using directory = await TempDirectory.make();
    const path = directory.join("Data.fs");
    const bytes = content(5 * BLOCK + 123);
    Deno.writeFileSync(path, bytes);
    await using reached = await reach(path, { command });
    const far = await FarFile.open(reached.shell);
    assert.equal(far.size, bytes.length);
    assert.equal(await far.sync(), true);
    const stretches = [[0, 0], [0, 1], [0, bytes.length], [BLOCK, BLOCK], [BLOCK - 1, 2], [3, 4 * BLOCK]];
    for (const [position, length] of [...stretches, [bytes.length - 1, 1]] as [number, number][]) {
      assertSameBytes(await far.bytes(position, length), bytes.subarray(position, position + length));
    }
    const digest = createHash("sha256").update(bytes.subarray(BLOCK, 3 * BLOCK)).digest("hex");
    assert.equal(await far.digest(1, 2), digest);
  });
}

const BUSYBOX = new Deno.Command("sh", { args: ["-c", "command -v busybox"] }).outputSync();

Deno.test({
  name: "the small tools of BusyBox do as well",
  ignore: !BUSYBOX.success,
  fn: async () => {
    await using directory = await TempDirectory.make();
    const busybox = new TextDecoder().decode(BUSYBOX.stdout).trim();
    for (const tool of ["dd", "ls", "md5sum", "sync"]) Deno.symlinkSync(busybox, directory.join(tool));
    const bytes = content(3 * BLOCK + 9);
    Deno.writeFileSync(directory.join("file"), bytes);
    const command = ["/usr/bin/env", `PATH=${directory.path}`, busybox, "sh"] as const;
    await using reached = await reach(directory.join("file"), { command });
    const far = await FarFile.open(reached.shell);
    assert.deepEqual([far.size, far.digests], [bytes.length, "md5"]);
    for (
      const [position, length] of [[0, 0], [BLOCK + 1, BLOCK], [3 * BLOCK, 9], [0, bytes.length]] as const
    ) {
      assertSameBytes(await far.bytes(position, length), bytes.subarray(position, position + length));
    }
    await far.sync(); // whether it can is BusyBox's own matter; it answers
    assert.equal(await far.digest(2, 9), createHash("md5").update(bytes.subarray(2 * BLOCK)).digest("hex"));
    Deno.renameSync(directory.join("file"), directory.join("other"));
    await assert.rejects(far.bytes(0, 1), NotFoundError);
  },
});

Deno.test("a path is taken as it is, whatever a shell could make of it", async () => {
  await using directory = await TempDirectory.make();
  for (const name of ["a b", "it's", '"$(id)`id`"', "line\nfeed", "-n", "*", "back\\slash", "ünï", "a: b"]) {
    Deno.writeTextFileSync(directory.join(name), `in ${name}`);
    const command = ["sh", "-c", `cd ${directory.path} && exec sh`] as const;
    for (const path of [name, directory.join(name)]) {
      await using reached = await reach(path, { command });
      const far = await FarFile.open(reached.shell);
      assert.equal(new TextDecoder().decode(await far.bytes(0, 100)).replace(/\0+$/, ""), `in ${name}`);
    }
  }
});

Deno.test("the home directory is the shell's to find", async () => {
  await using directory = await TempDirectory.make();
  Deno.writeTextFileSync(directory.join("a b"), "here");
  await using reached = await reach("~/a b", { command: ["env", `HOME=${directory.path}`, "sh"] });
  assert.equal((await FarFile.open(reached.shell)).size, 4);
});

Deno.test("what cannot be read is told by its kind", async () => {
  await using directory = await TempDirectory.make();
  Deno.writeTextFileSync(directory.join("file"), "x");
  const cases: [path: string, kind: typeof UsageError, words: RegExp][] = [
    [directory.join("none"), NotFoundError, /Cannot read there:.*none: there is no such file there/],
    [directory.join("file", "x"), NotFoundError, /no such file/],
    [directory.path, UsageError, /it is a directory/],
    ["/dev/null", UsageError, /it is not a regular file/],
  ];
  for (const [path, kind, words] of cases) {
    await using reached = await reach(path);
    await assert.rejects(
      FarFile.open(reached.shell),
      (error) => error instanceof kind && words.test(error.message),
    );
  }
});

Deno.test({
  name: "a file that must not be read is told as such",
  ignore: Deno.uid() !== 0, // to be somebody else
  fn: async () => {
    await using directory = await TempDirectory.make();
    Deno.chmodSync(directory.path, 0o755);
    Deno.writeTextFileSync(directory.join("file"), "x");
    Deno.chmodSync(directory.join("file"), 0o600);
    const command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh"] as const;
    {
      await using reached = await reach(directory.join("file"), { command });
      await assert.rejects(FarFile.open(reached.shell), /permission denied there/);
    }
    Deno.chmodSync(directory.path, 0o700);
    await using reached = await reach(directory.join("file"), { command });
    await assert.rejects(FarFile.open(reached.shell), /permission denied there/);
  },
});

Deno.test("without a program for digests there are none, and reading needs none", async () => {
  await using directory = await TempDirectory.make();
  for (const tool of ["dd", "ls"]) {
    const { stdout } = new Deno.Command("sh", { args: ["-c", `command -v ${tool}`] }).outputSync();
    Deno.symlinkSync(new TextDecoder().decode(stdout).trim(), directory.join(tool));
  }
  Deno.writeTextFileSync(directory.join("file"), "hello");
  const command = ["/usr/bin/env", `PATH=${directory.path}`, "/bin/sh"] as const;
  await using reached = await reach(directory.join("file"), { command });
  const far = await FarFile.open(reached.shell);
  assert.deepEqual([far.digests, await far.sync()], [undefined, false]);
  assert.equal(new TextDecoder().decode(await far.bytes(1, 3)), "ell");
});

Deno.test("what a login shell prints before is passed over, within limits", async () => {
  await using directory = await TempDirectory.make();
  Deno.writeTextFileSync(directory.join("file"), "hello");
  const after = (script: string) =>
    reach(directory.join("file"), { command: ["sh", "-c", `${script}; exec sh`] });
  for (
    const script of ["echo Welcome", "printf 'no line end'", "printf 'zrs-0000 hello x y\\n'", "seq 1 8000"]
  ) {
    await using reached = await after(script);
    assert.equal((await FarFile.open(reached.shell)).size, 5);
  }
  await assert.rejects(after("seq 1 80000"), (error) => {
    return error instanceof ProtocolError && /more than 65536 bytes came.*it said: 1 2 3/.test(error.message);
  });
});

Deno.test("where no shell starts, what the other end said is in the message", async () => {
  const cases: [command: [string, ...string[]], words: RegExp][] = [
    [
      ["sh", "-c", "echo This account is not available; exit 1"],
      /exit code 1; it said: This account is not av/,
    ],
    [["sh", "-c", "echo Permission denied >&2; exit 255"], /exit code 255: Permission denied/],
    [["true"], /ended/],
  ];
  for (const [command, words] of cases) {
    await assert.rejects(reach("x", { command }), (error) => {
      return error instanceof UnavailableError && words.test(error.message);
    });
  }
  await assert.rejects(
    reach("x", { command: ["cat"], startTimeoutMs: 200 }),
    /no shell has started.*it said: zrs_far/,
  );
});

Deno.test("a file that takes another's place is not read for it", async () => {
  await using directory = await TempDirectory.make();
  const path = directory.join("file");
  Deno.writeTextFileSync(path, "one");
  await using reached = await reach(path);
  const far = await FarFile.open(reached.shell);
  Deno.writeTextFileSync(directory.join("other"), "two");
  Deno.renameSync(directory.join("other"), path);
  await assert.rejects(far.bytes(0, 3), FarReplacedError);
  await assert.rejects(far.digest(0, 1), FarReplacedError);
  await assert.rejects(far.checkStillThere(), FarReplacedError);
  Deno.removeSync(path);
  await assert.rejects(far.bytes(0, 3), NotFoundError);
});

Deno.test("of a file that has become shorter comes what there is", async () => {
  await using directory = await TempDirectory.make();
  const path = directory.join("file");
  const bytes = content(3 * BLOCK);
  Deno.writeFileSync(path, bytes);
  await using reached = await reach(path);
  const far = await FarFile.open(reached.shell);
  Deno.truncateSync(path, BLOCK + 5);
  const { count, after } = await far.read(10, 2 * BLOCK, () => {});
  assert.deepEqual([count, after.size], [BLOCK - 5, BLOCK + 5]);
  await assert.rejects(far.view((file) => file.readAt(new Uint8Array(1), BLOCK + 6)), /become shorter/);
});

Deno.test("a walk reads the file as if it were here, and fetches what it needs", async () => {
  await using directory = await TempDirectory.make();
  const path = directory.join("file");
  const bytes = content(20 * BLOCK);
  Deno.writeFileSync(path, bytes);
  await using reached = await reach(path);
  const far = await FarFile.open(reached.shell);
  const found = await far.view((file) => {
    const into = new Uint8Array(9 * BLOCK);
    return [file.readAt(into, 12 * BLOCK), into, file.readAt(new Uint8Array(9), bytes.length)] as const;
  });
  assert.deepEqual([found[0], found[2]], [8 * BLOCK, 0]);
  assertSameBytes(found[1].subarray(0, found[0]), bytes.subarray(12 * BLOCK));
});

Deno.test("digests are made by whichever program is there", async () => {
  const bytes = content(2 * BLOCK + 7);
  for (const [tool, kind] of [["sha256sum", "sha256"], ["openssl", "sha256"], ["md5sum", "md5"]] as const) {
    await using directory = await TempDirectory.make();
    for (const each of ["dd", "ls", tool]) {
      const { stdout } = new Deno.Command("sh", { args: ["-c", `command -v ${each}`] }).outputSync();
      const found = new TextDecoder().decode(stdout).trim();
      if (found !== "") Deno.symlinkSync(found, directory.join(each));
    }
    Deno.writeFileSync(directory.join("file"), bytes);
    const command = ["/usr/bin/env", `PATH=${directory.path}`, "/bin/sh"] as const;
    await using reached = await reach(directory.join("file"), { command });
    const far = await FarFile.open(reached.shell);
    assert.equal(far.digests, kind);
    const expected = createHash(kind).update(bytes.subarray(BLOCK)).digest("hex");
    assert.equal(await far.digest(1, 5), expected);
  }
});

/** A shell's end of the conversation: reads our program, and answers each question by the next of these. */
function liar(...answers: readonly string[]): ReachOptions {
  const says = answers.map((answer) => `read q; printf "${answer}"`).join("\n");
  const script =
    `while read -r line; do case $line in mark=*) m=\${line#mark=};; "zrs_far; exit") break;; esac; done
printf "\\n$m hello none none\\n"\n${says}\nsleep 1000`;
  return { command: ["sh", "-c", script] };
}

Deno.test("whoever does not keep to the questions is dropped, before it costs anything", async () => {
  const found = "\\n$m found 7 1000000\\n";
  const cases: [answers: string[], ask: (far: FarFile) => Promise<unknown>][] = [
    [["\\n$m found x 7\\n"], () => Promise.resolve()],
    [["\\n$m found 7 99999999999999999999\\n"], () => Promise.resolve()],
    [["%70000d\\n$m found 7 7\\n"], () => Promise.resolve()],
    [[found, "%200000d\\n$m read 7 7\\n"], (far) => far.bytes(0, 1)],
    [[found, "abc\\n$m digested\\n"], (far) => far.digest(0, 1)],
    [[found, "%2000d\\n$m digested\\n"], (far) => far.digest(0, 1)],
  ];
  for (const [answers, ask] of cases) {
    await using reached = await reach("x", liar(...answers));
    const asked = (async () => await ask(await FarFile.open(reached.shell)))();
    await assert.rejects(beforeDeadline("an end", asked), ProtocolError, answers.join());
  }
});
