/** What an object's data refers to, for packing. */
import { ReferenceScanner } from "../../pickle/mod.ts";

const SCANNER = new ReferenceScanner();

/** @throws PickleError */
export function findReferences(data: Uint8Array, found: (oidHigh: number, oidLow: number) => void): void {
  SCANNER.scan(data, 0, data.length);
  const { references } = SCANNER;
  for (let i = 0; i < references.length; i += 2) found(references[i]!, references[i + 1]!);
}
