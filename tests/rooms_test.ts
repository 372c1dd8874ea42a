/** The shape of lib/: the arrows between its rooms hold, and only the host touches the world. */

import assert from "node:assert/strict";
import { breachesOf, reach } from "./rooms.ts";
import { splitSource } from "./source_text.ts";

const LIB = new URL("../lib/", import.meta.url);

function* sourcesIn(directory: URL, prefix = ""): Generator<[path: string, source: string]> {
  for (const entry of Deno.readDirSync(directory)) {
    const path = `${prefix}${entry.name}`;
    if (entry.isDirectory) yield* sourcesIn(new URL(`${entry.name}/`, directory), `${path}/`);
    else if (entry.name.endsWith(".ts")) yield [path, Deno.readTextFileSync(new URL(entry.name, directory))];
  }
}

Deno.test("every file of lib keeps to the arrows, and only the host touches the world", () => {
  const sources = [...sourcesIn(LIB)];
  assert.ok(sources.some(([path]) => path === "errors.ts"), "the sources are found");
  assert.deepEqual(sources.flatMap(([path, source]) => breachesOf(path, source)), []);
});

Deno.test("arrows are transitive, and nothing points back", () => {
  const from = (room: string) => [...reach(room)].sort();
  assert.deepEqual(from("ports"), ["errors", "ports"]);
  assert.deepEqual(from("host"), ["bytes", "errors", "host", "ports"]);
  assert.deepEqual(from("filestorage"), ["bytes", "errors", "filestorage", "pickle", "ports", "zodb"]);
  assert.ok(reach("replica").has("bytes") && !reach("replica").has("host"));
  assert.ok(reach("cli").has("host") && reach("cli").has("zodb"));
});

Deno.test("imports along the arrows are no breach, in every form", () => {
  const allowed: [path: string, source: string][] = [
    ["bytes/mod.ts", `export { a } from "./a.ts"; export * from "./b.ts"; import { E } from "../errors.ts";`],
    ["zodb/tid.ts", `import { readU64 } from "../bytes/mod.ts";`],
    ["replica/a.ts", `import type { Disk } from "../ports/mod.ts"; import * as z from '../zodb/mod.ts';`],
    ["zrs/a.ts", `import { createHash } from "node:crypto"; import zlib from "node:zlib";`],
    ["host/a.ts", `import fs from "node:fs"; import { x } from "@logtape/logtape"; Deno.exit(Date.now());`],
    ["cli/a.ts", `import "@optique/run"; import { h } from "../host/mod.ts"; await import("../zrs/mod.ts");`],
    ["errors.ts", `export class A extends Error {}`],
  ];
  for (const [path, source] of allowed) assert.deepEqual(breachesOf(path, source), [], source);
});

Deno.test("an import against the arrows is a breach, in every form", () => {
  const forbidden: [path: string, source: string][] = [
    ["bytes/a.ts", `import { Tid } from "../zodb/mod.ts";`],
    ["bytes/a.ts", `import { type A, b as c }\n  from "../zodb/mod.ts";`],
    ["bytes/a.ts", `import type { Tid } from '../zodb/mod.ts';`],
    ["bytes/a.ts", `import /* why */ d, * as e from "../zodb/mod.ts";`],
    ["bytes/a.ts", `import "../zodb/mod.ts";`],
    ["bytes/a.ts", `export * from "../zodb/mod.ts";`],
    ["bytes/a.ts", `export type { Tid } from "../zodb/mod.ts";`],
    ["bytes/a.ts", `const zodb = await import("../zodb/mod.ts");`],
    ["bytes/a.ts", "const zodb = await import(`../zodb/mod.ts`);"],
    ["bytes/a.ts", `type Tid = import("../zodb/mod.ts").Tid;`],
    ["bytes/a.ts", `const text = \`\${await import("../zodb/mod.ts")}\`;`],
    ["bytes/deep/a.ts", `import { Tid } from "../../zodb/mod.ts";`],
    ["bytes/a.ts", "await import(`../${room}/mod.ts`);"],
    ["bytes/a.ts", `await import("../by" + "tes/mod.ts");`],
    ["bytes/a.ts", `await import(name);`],
    ["errors.ts", `import { Disk } from "./ports/mod.ts";`],
    ["ports/a.ts", `import { readU64 } from "../bytes/mod.ts";`],
    ["zodb/a.ts", `import { Disk } from "../ports/mod.ts";`],
    ["zrs/a.ts", `import { LAYOUT } from "../filestorage/mod.ts";`],
    ["zrs/a.ts", `import { Disk } from "../ports/mod.ts";`],
    ["filestorage/a.ts", `import { Frame } from "../zrs/mod.ts";`],
    ["replica/a.ts", `import { systemHost } from "../host/mod.ts";`],
    ["host/a.ts", `import { Tid } from "../zodb/mod.ts";`],
    ["cli/a.ts", `import { World } from "../../tests/simulation/world.ts";`],
    ["cli/a.ts", `import fs from "node:fs";`],
    ["cli/a.ts", `import { Buffer } from "node:buffer";`],
    ["host/a.ts", `import { Buffer } from "node:buffer";`],
    ["replica/a.ts", `import { getLogger } from "@logtape/logtape";`],
    ["host/a.ts", `import { object } from "@optique/core";`],
    ["cli/a.ts", `import fc from "fast-check";`],
    ["cli/a.ts", `import x from "npm:left-pad";`],
    ["cli/a.ts", `import x from "https://example.com/x.ts";`],
    ["attic/a.ts", `export const a = 1;`],
  ];
  for (const [path, source] of forbidden) {
    assert.equal(breachesOf(path, source).length, 1, `${path} ${source}`);
  }
});

Deno.test("world, time and chance are a breach outside the host, also within a template", () => {
  const forbidden = [
    `Deno.exit(1);`,
    `const { pid } = globalThis.Deno.build;`,
    `const now = Date.now();`,
    `const now = Date\n  .now;`,
    `const now = new Date();`,
    `const now = +new Date;`,
    `setTimeout(f, 1);`,
    `globalThis.setInterval(f, 1);`,
    `setImmediate(f);`,
    `Math.random();`,
    `performance.now();`,
    `crypto.getRandomValues(a);`,
    `const bytes = randomBytes(8);`,
    `console.log(1);`,
    "const text = `at ${ `${Date.now()}` } and`;",
    `const pattern = /["'\`]/; Math.random();`,
    `const half = a / 2; Deno.exit(); const b = c / 2;`,
    `const url = "http://"; Deno.exit();`,
    `const text = "\\\\"; Deno.exit();`,
  ];
  for (const source of forbidden) {
    assert.equal(breachesOf("replica/a.ts", source).length, 1, source);
    assert.deepEqual(breachesOf("host/a.ts", source), [], source);
  }
});

Deno.test("words in comments, strings and patterns are no breach, nor is a look-alike", () => {
  const allowed = [
    `// Deno.exit() and import("../host/mod.ts")`,
    `/* Date.now()\n * import x from "../host/mod.ts"; */`,
    `const hint = "Deno.exit() or import x from '../host/mod.ts'";`,
    "const text = `Math.random() ${a} setTimeout`;",
    `const pattern = /Deno\\.exit[/]setTimeout/;`,
    `const time = new Date(milliseconds).toISOString();`,
    `clock.schedule(1, f); cache.fetch(oid); this.#fetch(oid);`,
    `const here = import.meta.url; registry.import(x);`,
    `const important = 1; export const exported = 2;`,
  ];
  for (const source of allowed) assert.deepEqual(breachesOf("replica/a.ts", source), [], source);
});

Deno.test("blanking keeps every position and line", () => {
  for (const [, source] of sourcesIn(LIB)) {
    const { withoutComments, codeOnly } = splitSource(source);
    for (const text of [withoutComments, codeOnly]) {
      assert.equal(text.length, source.length);
      assert.equal(text.split("\n").length, source.split("\n").length);
    }
  }
});
