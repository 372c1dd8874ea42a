import assert from "node:assert/strict";
import fc from "fast-check";
import { PickleError } from "../../lib/errors.ts";
import {
  decodePickle,
  encodeProtocol3,
  PickleLimitError,
  PyDict,
  PyGlobal,
  PyList,
  PyObject,
  PyText,
  PyTuple,
  type Value,
} from "../../lib/pickle/mod.ts";
import { bytesOf, hex, latin1 } from "../kit/hex.ts";
import extensions from "../fixtures/pickle/extensions.json" with { type: "json" };
import protocols from "../fixtures/pickle/protocols.json" with { type: "json" };

/** A value as a Python programmer would write it down. */
function repr(value: Value): string {
  if (value === null) return "None";
  if (value instanceof Uint8Array) return `b'${hex(value)}'`;
  if (value instanceof PyText) return JSON.stringify(value.toString());
  if (value instanceof PyTuple) return `(${value.items.map(repr).join(", ")})`;
  if (value instanceof PyList) return `[${value.items.map(repr).join(", ")}]`;
  if (value instanceof PyGlobal) return `${value.module}.${value.name}`;
  if (value instanceof PyDict) return `{${value.items.map(repr).join(", ")}}`;
  if (value instanceof PyObject) {
    const state = value.state === undefined ? "" : ` with ${repr(value.state)}`;
    return `${value.how} ${repr(value.callable)}${repr(value.args)}${state}`;
  }
  return typeof value === "number" ? `float ${Object.is(value, -0) ? "-0" : value}` : String(value);
}

const CASES: Readonly<Record<string, string>> = {
  "N.": "None",
  "I01\n.": "true",
  "I00\n.": "false",
  "\x88.": "true",
  "\x89.": "false",
  "I1\n.": "1",
  "I-7\n.": "-7",
  "I2147483648\n.": "2147483648",
  "L2L\n.": "2",
  "L-99999999999999999999L\n.": "-99999999999999999999",
  "K\xff.": "255",
  "M\x01\x02.": "513",
  "J\xff\xff\xff\xff.": "-1",
  "\x8a\x00.": "0",
  "\x8a\x01\x80.": "-128",
  "\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01.": "18446744073709551616",
  "\x8b\x02\x00\x00\x00\xff\x7f.": "32767",
  "F1.5\n.": "float 1.5",
  "F-inf\n.": "float -Infinity",
  "Fnan\n.": "float NaN",
  "G\x3f\xf8\x00\x00\x00\x00\x00\x00.": "float 1.5",
  "V\\u00e9\\U0001d11e\\\\u0041\\q\n.": '"é𝄞\\\\\\\\u0041\\\\q"',
  "X\x02\x00\x00\x00\xc3\xa9.": '"é"',
  "\x8c\x01a.": '"a"',
  "\x8d\x01\x00\x00\x00\x00\x00\x00\x00a.": '"a"',
  "S'it\\'s \\x41\\102\\n\\q'\n.": '"it\'s AB\\n\\\\q"',
  "S'\\xe9'\n.": "b'e9'",
  "U\x01a.": '"a"',
  "U\x01\xe9.": "b'e9'",
  "T\x02\x00\x00\x00\xe9a.": "b'e961'",
  "C\x02\x00\xff.": "b'00ff'",
  "B\x01\x00\x00\x00a.": "b'61'",
  "\x8e\x01\x00\x00\x00\x00\x00\x00\x00a.": "b'61'",
  "c_codecs\nencode\n(X\x02\x00\x00\x00\xc3\xa9X\x06\x00\x00\x00latin1tR.": "b'e9'",
  "c__builtin__\nbytes\n)R.": "b''",
  "(K\x01K\x02t.": "(1, 2)",
  ").": "()",
  "N\x85.": "(None)",
  "K\x01K\x02\x86.": "(1, 2)",
  "K\x01K\x02K\x03\x87.": "(1, 2, 3)",
  "](K\x01K\x02e.": "[1, 2]",
  "(K\x01K\x02l.": "[1, 2]",
  "]K\x01a.": "[1]",
  "}(K\x01K\x02u.": "{1, 2}",
  "(K\x01K\x02d.": "{1, 2}",
  "}K\x01K\x02s.": "{1, 2}",
  "K\x01q\x00h\x00\x86.": "(1, 1)",
  "K\x01r\x00\x01\x00\x00j\x00\x01\x00\x00\x86.": "(1, 1)",
  "K\x01p5\ng5\n\x86.": "(1, 1)",
  "K\x01\x94h\x00\x86.": "(1, 1)",
  "K\x012\x86.": "(1, 1)",
  "K\x01K\x020.": "1",
  "K\x01(K\x021.": "1",
  "K\x01(0.": "1",
  "\x80\x04\x95\x03\x00\x00\x00\x00\x00\x00\x00K\x01.": "1",
  "\x8f(K\x01K\x02\x90.": "reduce builtins.set([1, 2])",
  "(K\x01\x91.": "reduce builtins.frozenset([1])",
  "\x96\x01\x00\x00\x00\x00\x00\x00\x00a.": "reduce builtins.bytearray(b'61')",
  "cos\nsystem\n(X\x02\x00\x00\x00lstR.": 'reduce os.system("ls")',
  "\x8c\x02os\x8c\x06system\x93.": "os.system",
  "ca\nB\n)\x81}X\x01\x00\x00\x00kK\x01sb.": 'new a.B() with {"k", 1}',
  "(ia\nB\n.": "reduce a.B()",
  "(ca\nB\nK\x01o.": "reduce a.B(1)",
  "ca\nB\n)}\x92.": "new a.B()",
};

Deno.test("a pickle of any opcode is read without executing anything", () => {
  for (const [pickle, expected] of Object.entries(CASES)) {
    assert.equal(repr(decodePickle(latin1(pickle))), expected, JSON.stringify(pickle));
  }
});

Deno.test("values in protocols 0 to 5 become what ZODB writes for them", () => {
  for (const { zodb, protocols: pickles } of protocols) {
    for (const [protocol, pickle] of pickles.entries()) {
      assert.equal(hex(encodeProtocol3(decodePickle(bytesOf(pickle)), 65_535)), zodb, `protocol ${protocol}`);
    }
  }
});

Deno.test("lone surrogates and surrogate pairs in a text stay what they are", () => {
  for (const utf8 of ["edb280", "eda080edb080", "f0908080"]) {
    const value = decodePickle(bytesOf(`58 0${utf8.length / 2}000000 ${utf8} 2e`));
    assert.ok(value instanceof PyText);
    assert.equal(hex(value.utf8), utf8);
  }
  const escaped = decodePickle(latin1("V\\udc80\n."));
  assert.ok(escaped instanceof PyText);
  assert.equal(hex(escaped.utf8), "edb280");
});

const DAMAGED: Readonly<Record<string, RegExp>> = {
  "": /ends without a STOP/,
  "N": /ends without a STOP/,
  ".": /a value is missing/,
  "(.": /a value is missing/,
  "N(q\x00.": /a value is missing/,
  "\xff.": /no opcode 0xff/,
  "K": /longer than the pickle/,
  "X\xff\xff\xff\xffabc.": /longer than the pickle/,
  "\x8e\xff\xff\xff\xff\xff\xff\xff\xff.": /longer than the pickle/,
  "X\x01": /longer than the pickle/,
  "I1": /no end/,
  "Ione\n.": /decimal/,
  "I0x10\n.": /decimal/,
  "I010\n.": /decimal/,
  "F1,5\n.": /floating-point/,
  "S'a\n.": /quotes/,
  "S'\\x4'\n.": /hexadecimal/,
  "V\\u12\n.": /hexadecimal/,
  "V\\U00110000\n.": /beyond Unicode/,
  "X\x02\x00\x00\x00\xc0\x80.": /not UTF-8/,
  "X\x03\x00\x00\x00\xe0\x80\x80.": /not UTF-8/,
  "X\x04\x00\x00\x00\xf4\x90\x80\x80.": /not UTF-8/,
  "X\x01\x00\x00\x00\xc3.": /not UTF-8/,
  "h\x00.": /stored as number 0/,
  "g-1\n.": /stored as number -1/,
  "K\x01p-1\n.": /memo index/,
  "K\x01r\xff\xff\xff\xff.": /memo index/,
  "t.": /MARK is missing/,
  "}(K\x01u.": /key has no value/,
  "}]K\x01s.": /cannot be a key/,
  "}]\x85K\x01s.": /cannot be a key/,
  "}c__builtin__\nset\n(]tRK\x01s.": /cannot be a key/,
  "K\x01K\x02a.": /no list/,
  "K\x01K\x02K\x03s.": /no dict/,
  "](K\x01\x90.": /no set/,
  "K\x01)R.": /no class or function/,
  "ca\nB\nK\x01R.": /no tuple/,
  "ca\nB\n}b.": /takes a state/,
  "(o.": /no class/,
  "Pabc\n.": /refers to what is not in it/,
  "NQ.": /refers to what is not in it/,
  "\x82\x01.": /refers to what is not in it/,
  "\x97.": /refers to what is not in it/,
  "K\x01\x8c\x01a\x93.": /named by no text/,
  "\x8c\x01\n\x8c\x01a\x93.": /several lines/,
  "c\xff\na\n.": /not UTF-8/,
  "\x80\x06N.": /protocol 6/,
  "\x95\x03\x00\x00\x00\x00\x00\x00\x00N.": /frame/,
  "c_codecs\nencode\n(X\x02\x00\x00\x00\xc4\x80X\x06\x00\x00\x00latin1tR.": /U\+00FF/,
  "N.N": /behind its end/,
};

Deno.test("a damaged pickle is refused with the reason", () => {
  for (const [pickle, reason] of Object.entries(DAMAGED)) {
    assert.throws(
      () => decodePickle(latin1(pickle)),
      (error) => error instanceof PickleError && reason.test(error.message),
      JSON.stringify(pickle),
    );
  }
});

Deno.test("a pickle with too many opcodes or too long numbers is refused", () => {
  assert.throws(() => decodePickle(latin1("N0".repeat(250_000) + "N.")), PickleLimitError);
  assert.throws(() => decodePickle(latin1("]".repeat(500_000) + ".")), PickleLimitError);
  assert.throws(() => decodePickle(latin1(`L${"9".repeat(4301)}L\n.`)), PickleError);
  assert.equal(decodePickle(latin1(`L${"9".repeat(4300)}L\n.`)), 10n ** 4300n - 1n);
});

Deno.test("bytes made from one remembered text again and again are refused before they fill the memory", () => {
  const text = `X\0\0\x10\0${"t".repeat(0x10_0000)}`;
  const call = "c_codecs\nencode\nq\0(" + text + "X\x06\0\0\0latin1tq\x01";
  assert.throws(() => decodePickle(latin1(`(${call}${"h\0h\x01R".repeat(50_000)}t.`)), PickleLimitError);
  assert.throws(
    () => decodePickle(latin1("\x8b\x01\0\x01\0" + "1".repeat(0x1_0001) + ".")),
    PickleLimitError,
  );
});

Deno.test("values that contain themselves, or share what they hold many times over, are read", () => {
  const list = decodePickle(latin1("]q\x00h\x00a."));
  assert.ok(list instanceof PyList && list.items[0] === list);
  const laughs = "]K\x01a" +
    Array.from(
      { length: 60 },
      (_, i) => `q${String.fromCharCode(i)}]h${String.fromCharCode(i)}ah${String.fromCharCode(i)}a`,
    ).join("");
  assert.ok(decodePickle(latin1(laughs + ".")) instanceof PyList);
});

Deno.test("no bytes whatever make the decoder fail with anything but PickleError", () => {
  const samples = [
    ...extensions.map(({ sent }) => bytesOf(sent)),
    ...extensions.map(({ stored }) => bytesOf(stored)),
  ]
    .filter((sample) => sample.length > 0 && sample.length < 2000);
  const mutated = fc.tuple(
    fc.constantFrom(...samples),
    fc.array(fc.tuple(fc.nat(2000), fc.nat(255)), { minLength: 1, maxLength: 6 }),
  ).map(([sample, changes]) => {
    const bytes = sample.slice();
    for (const [at, value] of changes) bytes[at % bytes.length] = value;
    return bytes;
  });
  const opcodes = fc.array(
    fc.constantFrom(
      ...latin1(
        "(.012FIJKLMNRSTUVXabcd}eghijl]opqrst)u\x80\x81\x85\x86\x87\x88\x89\x8a\x8cB\x8f\x90\x91\x92\x93\x94\x95\n'\x00\x01",
      ),
    ),
    {
      maxLength: 60,
    },
  ).map((bytes) => Uint8Array.from([...bytes, 0x2e]));
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 80 }), mutated, opcodes), (bytes) => {
      try {
        decodePickle(bytes);
      } catch (error) {
        assert.ok(error instanceof PickleError, String(error));
      }
    }),
    { numRuns: 20_000 },
  );
});
