/** Real ZODB opens a database with the index file that we wrote, and scans nothing that the index covers. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { checkIndex, readIndexFile, writeIndexFile } from "../../lib/filestorage/index/index_file.ts";
import { ObjectIndex } from "../../lib/filestorage/index/object_index.ts";
import { systemHost } from "../../lib/host/mod.ts";
import { type EnvironmentName, findInterpreter } from "../kit/environments.ts";
import { peerTest } from "../kit/peers.ts";
import { TempDirectory } from "../kit/temp.ts";

const SCRIPT = fileURLToPath(new URL("index_opens_in_python.py", import.meta.url));
const { disk } = systemHost();

/** What the script prints. */
interface Described {
  readonly position: number;
  readonly lastTid: string;
  readonly entries: readonly (readonly [oid: string, position: number])[];
  /** Where each scan for records began. */
  readonly starts?: readonly number[];
}

async function python(
  environment: EnvironmentName,
  command: "make" | "open",
  path: string,
): Promise<Described> {
  const interpreter = findInterpreter(environment);
  assert.ok(interpreter !== undefined);
  const args = [SCRIPT, command, path];
  const { success, stdout, stderr } = await new Deno.Command(interpreter, { args }).output();
  assert.ok(success, new TextDecoder().decode(stderr));
  return JSON.parse(new TextDecoder().decode(stdout));
}

function indexOf(entries: Described["entries"]): ObjectIndex {
  const index = new ObjectIndex();
  for (const [oid, position] of entries) {
    index.set(parseInt(oid.slice(0, 8), 16), parseInt(oid.slice(8), 16), position);
  }
  return index;
}

function entriesOf(index: ObjectIndex): [string, number][] {
  const hex = (half: number) => half.toString(16).padStart(8, "0");
  const entries: [string, number][] = [];
  index.forEach((high, low, position) => entries.push([hex(high) + hex(low), position]));
  return entries;
}

const ENVIRONMENTS: EnvironmentName[] = ["zodb55", "zodb6"];

for (const maker of ENVIRONMENTS) {
  for (const opener of ENVIRONMENTS) {
    peerTest(`${opener} opens what ${maker} made by our index, without a scan`, [maker, opener], async () => {
      await using directory = await TempDirectory.make();
      const path = directory.join("Data.fs");
      const made = await python(maker, "make", path);
      const theirs = Deno.readFileSync(`${path}.index`);

      disk.remove(`${path}.index`);
      const without = await python(opener, "open", path);
      assert.deepEqual(without.starts, [4]); // so the scan is seen where there is one

      await writeIndexFile(disk, path, indexOf(made.entries), made.position);
      assert.deepEqual(Deno.readFileSync(`${path}.index`), theirs);
      const opened = await python(opener, "open", path);
      assert.deepEqual(opened, { ...made, starts: [made.position] });
    });
  }

  peerTest(`the index that ${maker} wrote is read, and passes the check`, [maker], async () => {
    await using directory = await TempDirectory.make();
    const path = directory.join("Data.fs");
    const made = await python(maker, "make", path);
    const read = readIndexFile(disk, path);
    assert.ok(read.kind === "read");
    assert.equal(read.position, made.position);
    assert.deepEqual(entriesOf(read.index), made.entries);
    using file = disk.openRead(path);
    const check = checkIndex(file, read.index, read.position);
    assert.deepEqual(check, { kind: "good", lastTid: BigInt(`0x${made.lastTid}`) });
  });
}
