import assert from "node:assert/strict";
import { AuthFile } from "../../lib/cli/auth_file.ts";
import { NotFoundError, UsageError } from "../../lib/errors.ts";
import { systemHost } from "../../lib/host/mod.ts";
import { latin1 } from "../kit/hex.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";
import { TempDirectory } from "../kit/temp.ts";

const PATH = "/etc/zrs.secret";

function open(content: string | Uint8Array): AuthFile {
  const disk = new MemoryDisk();
  disk.put(PATH, typeof content === "string" ? new TextEncoder().encode(content) : content);
  return AuthFile.open(disk, PATH);
}

Deno.test("the secret is the first line, however the file was edited", () => {
  const secret = new TextEncoder().encode("gehört uns allein");
  for (
    const content of [
      "gehört uns allein",
      "gehört uns allein\n",
      "gehört uns allein\r\nkeep this line",
      "\t gehört uns allein \n\n",
      "\ufeffgehört uns allein\n",
      `gehört uns allein\n${"x".repeat(10_000)}`,
    ]
  ) assert.deepEqual(open(content).bytes, secret, JSON.stringify(content.slice(0, 30)));
  assert.equal(open("0123456789abcdef").bytes.length, 16);
});

Deno.test("a file without a secret is refused by name, with a way to make one", () => {
  for (
    const [content, says] of [
      ["", /at least 16 bytes, and is empty/],
      ["\n0123456789abcdef\n", /at least 16 bytes, and is empty/],
      ["0123456789abcde\n", /at least 16 bytes, and has 15/],
      [`0123456789abcde${" ".repeat(100)}`, /at least 16 bytes, and has 15/],
      ["x".repeat(4096), /less than 4096 bytes, and has more/],
      [latin1("\xff\xfe0123456789abcdef"), /must be text, and is not UTF-8/],
    ] as const
  ) {
    assert.throws(
      () => open(content),
      (error) =>
        error instanceof UsageError && error.message.startsWith(`Cannot use ${PATH} as the secret: `) &&
        says.test(error.message) && error.hint === `Make one with: openssl rand -hex 32 > ${PATH}`,
      `${says}`,
    );
  }
  assert.throws(() => AuthFile.open(new MemoryDisk(), PATH), NotFoundError);
});

Deno.test("a file that is read anew and is bad leaves the secret as it was", () => {
  const disk = new MemoryDisk();
  disk.put(PATH, latin1("the first secret of all"));
  const file = AuthFile.open(disk, PATH);
  const before = file.bytes;
  disk.put(PATH, latin1("short"));
  assert.throws(() => file.reload(), UsageError);
  assert.deepEqual(file.bytes, before);
  disk.put(PATH, latin1("the second secret of all"));
  file.reload();
  assert.deepEqual(file.bytes, latin1("the second secret of all"));
});

Deno.test("a file that others can read is warned of", async () => {
  await using directory = await TempDirectory.make();
  const path = directory.join("secret");
  await Deno.writeTextFile(path, "0123456789abcdef");
  for (const [mode, count] of [[0o600, 0], [0o400, 0], [0o640, 1], [0o604, 1], [0o644, 1]] as const) {
    await Deno.chmod(path, mode);
    const { warnings } = AuthFile.open(systemHost().disk, path);
    assert.equal(warnings.length, count, mode.toString(8));
    for (const warning of warnings) assert.match(warning, /secret can be read by others .* chmod 600/);
  }
});
