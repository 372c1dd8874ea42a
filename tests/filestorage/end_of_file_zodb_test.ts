/** Real ZODB at the same ends of files: it does as we do, but where the table names the difference. */
import assert from "node:assert/strict";
import type { EnvironmentName } from "../kit/environments.ts";
import { PeerError } from "../kit/peer.ts";
import { OpenCheck, peerTest } from "../kit/peers.ts";
import { TempDirectory } from "../kit/temp.ts";
import { BEFORE, type Deed, TAILS } from "./tails.ts";

for (const environment of ["zodb55", "zodb6"] satisfies EnvironmentName[]) {
  peerTest(`${environment} treats the end of a file as the table says`, [environment], async () => {
    await using directory = await TempDirectory.make();
    await using check = await OpenCheck.start(environment);
    const found: Record<string, Deed> = {};
    const expected: Record<string, Deed> = {};
    for (const [index, tail] of TAILS.entries()) {
      const path = directory.join(`${index}.fs`);
      Deno.writeFileSync(path, new Uint8Array([...BEFORE.bytes, ...tail.bytes]));
      expected[tail.name] = tail.zodb?.does ?? tail.owner;
      found[tail.name] = await open(check, path, tail.bytes);
    }
    assert.deepEqual(found, expected);
  });
}

async function open(check: OpenCheck, path: string, tail: Uint8Array): Promise<Deed> {
  const before = Deno.readFileSync(path);
  let savedTails: readonly string[];
  try {
    ({ savedTails } = await check.check(path, { readOnly: false, transactions: false }));
  } catch (error) {
    assert(error instanceof PeerError);
    assert.deepEqual(Deno.readFileSync(path), before);
    return "refuses";
  }
  const after = Deno.readFileSync(path);
  if (after.length === before.length) return "keeps";
  assert.deepEqual(after, BEFORE.bytes);
  if (savedTails.length === 0) return "cuts";
  assert.deepEqual(Deno.readFileSync(`${path}.tr0`), tail);
  return "cuts and saves";
}
