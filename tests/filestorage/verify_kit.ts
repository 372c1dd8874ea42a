/** Verifying bytes in memory. */
import { type Finding, Verification, type Verified, type VerifyOptions } from "../../lib/filestorage/mod.ts";
import { MemoryDisk } from "../kit/memory_disk.ts";

export const PATH = "/data/Data.fs";

export interface Outcome {
  readonly findings: readonly Finding[];
  readonly verified: Verified;
}

/** Verifies what a disk has at {@link PATH}. */
export async function verifyOn(disk: MemoryDisk, options: VerifyOptions = {}): Promise<Outcome> {
  using verification = Verification.open(disk, PATH);
  const findings: Finding[] = [];
  for await (const finding of verification.findings(options)) findings.push(finding);
  return { findings, verified: verification.verified };
}

/** Verifies a file, with an index beside it if there is one. */
export async function verify(
  bytes: Uint8Array,
  options: VerifyOptions = {},
  index?: Uint8Array,
): Promise<Outcome> {
  const disk = new MemoryDisk();
  disk.put(PATH, bytes);
  if (index !== undefined) disk.put(`${PATH}.index`, index);
  return await verifyOn(disk, options);
}

/** The kinds of what is found, in order. */
export async function kindsIn(
  bytes: Uint8Array,
  options: VerifyOptions = {},
  index?: Uint8Array,
): Promise<string[]> {
  return (await verify(bytes, options, index)).findings.map(({ kind }) => kind);
}
