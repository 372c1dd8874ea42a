/** Comparing bytes: node:assert describes a difference between long arrays for minutes, with gigabytes of memory. */
import assert from "node:assert/strict";

/** Asserts that two byte arrays are equal; tells where they begin to differ. */
export function assertSameBytes(actual: Uint8Array, expected: Uint8Array, what = "the bytes"): void {
  const length = Math.min(actual.length, expected.length);
  let same = 0;
  while (same < length && actual[same] === expected[same]) same++;
  if (same === actual.length && same === expected.length) return;
  const around = (bytes: Uint8Array) => bytes.slice(same, same + 16).toHex();
  assert.fail(
    `${what}: ${actual.length} bytes must equal ${expected.length} bytes; they differ at ${same}: ` +
      `found ${around(actual)}, expected ${around(expected)}`,
  );
}
