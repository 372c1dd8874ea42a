import assert from "node:assert/strict";
import { PickleError } from "../../lib/errors.ts";
import {
  decodePickle,
  encodePickle,
  PickleLimitError,
  PyDict,
  PyGlobal,
  PyList,
  PyObject,
  PyText,
  PyTuple,
  type Value,
} from "../../lib/pickle/mod.ts";
import { hex, latin1 } from "../kit/hex.ts";

const BYTES_FORM = "c_codecs\nencode\n(X\x05\0\0\0\xc3\xa9\0\xc3\xbfX\x06\0\0\0latin1tR";

const FORMS: readonly (readonly [Value, string])[] = [
  [PyText.of("é"), "X\x02\0\0\0\xc3\xa9"],
  [Uint8Array.of(0xe9, 0, 0xff), BYTES_FORM],
  [new Uint8Array(0), "c__builtin__\nbytes\n)R"],
  [0n, "K\0"],
  [255n, "K\xff"],
  [256n, "M\0\x01"],
  [65535n, "M\xff\xff"],
  [65536n, "J\0\0\x01\0"],
  [-1n, "J\xff\xff\xff\xff"],
  [2147483648n, "L2147483648L\n"],
  [-2147483649n, "L-2147483649L\n"],
  [true, "I01\n"],
  [false, "I00\n"],
  [null, "N"],
  [1.5, "G\x3f\xf8\0\0\0\0\0\0"],
  [new PyTuple([]), ")"],
  [new PyTuple([1n]), "(K\x01t"],
  [new PyList([]), "]"],
  [new PyList([1n]), "]K\x01a"],
  [new PyList([1n, 2n]), "](K\x01K\x02e"],
  [new PyDict([]), "}"],
  [new PyDict([1n, 2n]), "}K\x01K\x02s"],
  [new PyDict([1n, 2n, 3n, 4n]), "}(K\x01K\x02K\x03K\x04u"],
  [set("builtins", [1n]), "c__builtin__\nset\n(]K\x01atR"],
  [set("__builtin__", []), "c__builtin__\nset\n(]tR"],
];

function set(module: string, items: Value[]): Value {
  return new PyObject("reduce", new PyGlobal(module, "set"), new PyTuple([new PyList(items)]));
}

Deno.test("plain values are written as zc.zrs on Python 3 writes them", () => {
  for (const [value, form] of FORMS) {
    assert.equal(hex(encodePickle(value, 1000)), hex(latin1(form + ".")), JSON.stringify(form));
  }
});

Deno.test("lists and dicts are written in batches of 1000", () => {
  const nones = (count: number) => new Array<Value>(count).fill(null);
  const text = (value: Value) => String.fromCharCode(...encodePickle(value, 100_000));
  assert.equal(text(new PyList(nones(1000))), `](${"N".repeat(1000)}e.`);
  assert.equal(text(new PyList(nones(1001))), `](${"N".repeat(1000)}e(Ne.`);
  assert.equal(text(new PyDict(nones(2000))), `}(${"N".repeat(2000)}u(u.`);
  assert.equal(text(new PyDict(nones(2002))), `}(${"N".repeat(2000)}u(NNu.`);
});

Deno.test("what cannot be written as it is meant is refused", () => {
  const cyclic = new PyList();
  cyclic.items.push(cyclic);
  const call = new PyObject("reduce", new PyGlobal("os", "system"), new PyTuple([PyText.of("ls")]));
  for (const value of [cyclic, call, new PyGlobal("os", "system"), 10n ** 4300n, -(10n ** 9999n)]) {
    assert.throws(() => encodePickle(value, 100_000), PickleError);
  }
});

Deno.test("a pickle that would become too long is refused before it is", () => {
  let value: Value = PyText.of("laugh");
  for (let i = 0; i < 60; i++) value = new PyTuple([value, value]);
  assert.throws(() => encodePickle(value, 1_000_000), PickleLimitError);
});

Deno.test("what was written is read as the same", () => {
  for (const [value] of FORMS) {
    const pickle = encodePickle(value, 1000);
    assert.deepEqual(hex(encodePickle(decodePickle(pickle), 1000)), hex(pickle));
  }
});
