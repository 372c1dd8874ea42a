/**
 * The rooms of lib/ and what each may reach: which other rooms, which packages, and, outside the host, neither
 * the world nor the time nor chance. Works on text, so that a test can show each rule being broken.
 */

import { splitSource } from "./source_text.ts";

/** For each room those it names itself; what these reach it reaches too. Everyone may import errors.ts. */
const ARROWS: Readonly<Record<string, readonly string[]>> = {
  errors: [],
  ports: [],
  bytes: ["errors"],
  zodb: ["bytes"],
  pickle: ["bytes"],
  msgpack: ["bytes"],
  filestorage: ["zodb", "pickle", "ports", "bytes"],
  zrs: ["zodb", "pickle", "msgpack", "bytes"],
  native: ["zodb", "pickle", "msgpack", "bytes"],
  zeo: ["zodb", "pickle", "msgpack", "bytes"],
  replica: ["filestorage", "zrs", "native", "zeo", "ports"],
  host: ["ports", "bytes"],
  cli: ["replica", "host"],
};

/** Who may import what from outside lib/. Computation and assertions are no I/O: anyone may call them. */
const OUTSIDE: readonly { readonly specifier: RegExp; readonly rooms: readonly string[] | "all" }[] = [
  { specifier: /^node:(crypto|zlib|assert\/strict)$/, rooms: "all" },
  // Bytes are Uint8Array everywhere.
  { specifier: /^node:buffer$/, rooms: [] },
  { specifier: /^node:/, rooms: ["host"] },
  { specifier: /^(npm:)?@logtape\//, rooms: ["host", "cli"] },
  { specifier: /^(npm:)?@optique\//, rooms: ["cli"] },
];

/** Names that reach the world, the time or chance, in code without comments and strings. */
const WORLD: readonly RegExp[] = [
  /\bDeno\s*[.[]/,
  /\bDate\s*\.\s*now\b/,
  /\bnew\s+Date\b(?!\s*\(\s*[^\s)])/,
  /\bset(Timeout|Interval|Immediate)\b/,
  /\bMath\s*\.\s*random\b/,
  /\bperformance\s*[.[]/,
  /\bcrypto\s*\.\s*(getRandomValues|randomUUID)\b/,
  /\brandom(Bytes|Int|UUID|Fill|FillSync)\s*\(/,
  /\bconsole\s*[.[]/,
];

/** A broken rule, told so that it can be found and mended. */
export type Breach = string;

/**
 * Every rule that a file of lib/ breaks.
 * @param path within lib/, as in "filestorage/append.ts"
 */
export function breachesOf(path: string, source: string): Breach[] {
  const room = roomOf(path);
  if (!Object.hasOwn(ARROWS, room)) return [`${path}: no arrows are known for the room ${room}`];
  const { withoutComments, codeOnly } = splitSource(source);
  const breaches = importsOf(withoutComments, codeOnly)
    .map((specifier) => importBreach(path, room, specifier))
    .filter((breach) => breach !== undefined);
  if (room !== "host") {
    for (const pattern of WORLD) {
      const found = pattern.exec(codeOnly);
      if (found) breaches.push(`${path}: only the host may use ${found[0].trim()}`);
    }
  }
  return breaches;
}

/** The rooms that a room may import, itself included. */
export function reach(room: string): ReadonlySet<string> {
  const reached = new Set([room, "errors"]);
  for (const each of reached) {
    for (const next of ARROWS[each] ?? []) reached.add(next);
  }
  return reached;
}

function roomOf(path: string): string {
  return path.includes("/") ? path.slice(0, path.indexOf("/")) : path.replace(/\.ts$/, "");
}

/** The specifiers of static imports and re-exports, and of dynamic imports; "" for a computed one. */
function importsOf(withoutComments: string, codeOnly: string): string[] {
  const specifiers: string[] = [];
  // Both texts have the same length: the keywords are looked for where no string can hold them.
  for (const { index } of codeOnly.matchAll(/(?<![.#\w$])(import|export)\b/g)) {
    const rest = withoutComments.slice(index);
    const named = /^(?:import|export)\s+(?:type\s+)?[\w$\s{},*]*?\bfrom\s*(["'])(.*?)\1/.exec(rest);
    const bare = /^import\s*(["'])(.*?)\1/.exec(rest);
    const dynamic = /^import\s*\(\s*(?:(["'`])((?:(?!\1|\$\{).)*)\1\s*[,)])?/.exec(rest);
    if (named) specifiers.push(named[2]!);
    else if (bare) specifiers.push(bare[2]!);
    else if (dynamic) specifiers.push(dynamic[2] ?? "");
  }
  return specifiers;
}

function importBreach(path: string, room: string, specifier: string): Breach | undefined {
  if (specifier === "") return `${path}: an import must name what it imports`;
  if (!specifier.startsWith(".")) {
    const rule = OUTSIDE.find((each) => each.specifier.test(specifier));
    if (rule && (rule.rooms === "all" || rule.rooms.includes(room))) return undefined;
    return `${path}: the room ${room} may not import ${specifier}`;
  }
  const target = new URL(specifier, `file:///lib/${path}`).pathname;
  if (!target.startsWith("/lib/")) return `${path}: ${specifier} leads out of lib`;
  const targetRoom = roomOf(target.slice("/lib/".length));
  if (room === "cli" || reach(room).has(targetRoom)) return undefined;
  return `${path}: the room ${room} may not import ${targetRoom} (${specifier})`;
}
