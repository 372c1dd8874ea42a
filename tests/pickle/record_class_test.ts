import assert from "node:assert/strict";
import { recordClass } from "../../lib/pickle/mod.ts";
import { latin1 } from "../kit/hex.ts";

Deno.test("a record's class is told in every form in which ZODB has written it", () => {
  const forms: [pickle: string, name: string][] = [
    ["\x80\x03cpackage.module\nName\nq\x00.", "package.module.Name"],
    ["(cpackage.module\nName\nq\x01Nt.", "package.module.Name"],
    ["\x80\x02cpackage.module\nName\nK\x01\x85\x86.", "package.module.Name"],
    ["((U\x0epackage.moduleq\x01U\x04Nametq\x02Nt.", "package.module.Name"],
    ["\x80\x04\x8c\x0epackage.module\x94\x8c\x04Name\x94\x93\x94.", "package.module.Name"],
  ];
  for (const [pickle, name] of forms) {
    const bytes = latin1(`${pickle}and the state behind it`);
    assert.equal(recordClass(bytes), name, pickle);
    for (let length = 0; length < pickle.length; length++) {
      assert.equal(recordClass(bytes.subarray(0, length)), undefined);
    }
  }
});

Deno.test("what names no class has none", () => {
  for (const pickle of ["", "N.", "K\x05.", ").", "(N(Nt.", "((K\x01K\x02tNt.", "\xff\xff\xff"]) {
    assert.equal(recordClass(latin1(pickle)), undefined, pickle);
  }
});
