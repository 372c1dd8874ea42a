/**
 * Databases on other machines as people write them for scp and rsync, `[user@]host:path`, or as a URL, and the
 * command that leads there. What is written ends up in arguments of ssh and in a program for a shell at the other
 * end, so whatever could be taken for something else is refused, or quoted there (replica/far/far_program.ts).
 */
import { UsageError } from "../../errors.ts";

export interface SshTarget {
  readonly user: string | undefined;
  /** A name, an alias of the ssh configuration, or an address without brackets. */
  readonly host: string;
  readonly port: number | undefined;
  /** On the other machine, relative to the user's home unless it begins with a `/`. */
  readonly path: string;
}

const ACCEPTED =
  "Write [user@]host:path, or ssh://[user@]host[:port]/path; a local path with a colon as ./path";

/** What no host or user is called, and what shells in an ssh configuration could stumble over. */
const UNSAFE = /^-|[\s\p{Cc}'"`$\\;&<>|(){}*?!#]/u;

/**
 * Reads a place that ssh leads to.
 * @returns undefined where the text is none: a local path, or a URL of another kind
 * @throws UsageError that says what is wrong with it
 */
export function parseSshTarget(text: string): SshTarget | undefined {
  if (/^ssh:\/\//i.test(text)) return readUrl(text);
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(text)) return undefined;
  // As scp has it: a colon before any slash ends a host's name, and the first character begins a name.
  const found = /^(?<place>[^:/[]*(?:\[[^\]/]*\])?):(?<path>.*)$/s.exec(text)?.groups;
  if (found === undefined || found["place"] === "") return undefined;
  const [place, path] = [found["place"]!, found["path"]!];
  const at = place.lastIndexOf("@");
  if (at < 0 && /^\d{1,5}$/.test(path)) {
    // Whoever has just started a primary there knows it by this name.
    const hint = `Write zrs://${text} for a node that listens there, or ${place}:./${path} for a file`;
    throw wrong(text, "that may be a node or a file", hint);
  }
  return checked(text, {
    user: at < 0 ? undefined : place.slice(0, at),
    host: place.slice(at + 1),
    port: undefined,
    path,
  });
}

/** As it was written, for messages. */
export function formatSshTarget({ user, host, port, path }: SshTarget): string {
  const name = `${user === undefined ? "" : `${user}@`}${host.includes(":") ? `[${host}]` : host}`;
  if (port === undefined) return `${name}:${path}`;
  return `ssh://${name}:${port}${
    path.startsWith("/") ? path : path.startsWith("~") ? `/${path}` : `/~/${path}`
  }`;
}

function readUrl(text: string): SshTarget {
  const found =
    /^ssh:\/\/(?:(?<user>[^@/]*)@)?(?<host>\[[^\]/]*\]|[^:/@]*)(?::(?<port>[^/]*))?(?<path>\/.*)?$/is
      .exec(text)?.groups;
  if (found === undefined) throw wrong(text, "it is not a URL of the form ssh://host/path");
  const { user, host, port, path = "" } = found;
  if (user?.includes(":")) throw wrong(text, "a password has no place in it", "Use a key");
  if (port !== undefined && (!/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 65535)) {
    throw wrong(text, `the port must be a number from 1 to 65535, and is ${JSON.stringify(port)}`);
  }
  const plain = decoded(text, path);
  return checked(text, {
    user: user === undefined ? undefined : decoded(text, user),
    host: host!,
    port: port === undefined ? undefined : Number(port),
    path: plain.startsWith("/~") ? plain.slice(1) : plain,
  });
}

function decoded(text: string, part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw wrong(text, "a % must be followed by two hexadecimal digits", "Write a % itself as %25");
  }
}

function checked(text: string, target: SshTarget): SshTarget {
  const host = target.host.replace(/^\[(.*)\]$/, "$1");
  const path = target.path.replace(/^~\/+(?=.)/, "");
  if (host === "") throw wrong(text, "it names no host");
  if (UNSAFE.test(host) || /[[\]@]/.test(host)) {
    throw wrong(text, `${JSON.stringify(host)} is no host's name`);
  }
  if (target.user === "" || target.user !== undefined && UNSAFE.test(target.user)) {
    throw wrong(text, `${JSON.stringify(target.user)} is no user's name`);
  }
  if (path === "" || path.endsWith("/") || path === "~") throw wrong(text, "it names no file");
  if (path.includes("\0")) throw wrong(text, "no path has a zero byte");
  return { ...target, host, path };
}

function wrong(text: string, what: string, hint = ACCEPTED): UsageError {
  return new UsageError(`Cannot read ${JSON.stringify(text)}: ${what}`, { hint });
}

/**
 * Cuts a command into words as a shell does: at white space, with quotes of both kinds and backslashes. Nothing
 * else means anything: there are no variables and no patterns.
 * @throws UsageError where a quote is not closed, or nothing is there
 */
export function splitCommand(text: string): [command: string, ...args: string[]] {
  const words: string[] = [];
  let word: string | undefined;
  const pieces = /\s+|'([^']*)'|"((?:[^"\\]|\\.)*)"|\\(.)|([^\s'"\\]+)/gsy;
  let end = 0;
  for (let piece; (piece = pieces.exec(text)) !== null; end = pieces.lastIndex) {
    const [whole, single, double, escaped, plain] = piece;
    if (/^\s/.test(whole)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else {
      word = (word ?? "") + (single ?? double?.replace(/\\(["\\$`])/g, "$1") ?? escaped ?? plain);
    }
  }
  if (end < text.length) {
    throw new UsageError(`Cannot read command ${JSON.stringify(text)}: a quote is not closed`, {
      hint: "Write it as for a shell, such as --ssh 'ssh -p 2222'",
    });
  }
  if (word !== undefined) words.push(word);
  const [command, ...args] = words;
  if (command === undefined || command === "") {
    throw new UsageError("Cannot run an empty command", {
      hint: "Name a program, such as --ssh 'ssh -p 2222'",
    });
  }
  return [command, ...args];
}

/** What is started at the other end: whatever the login shell is, it understands this. */
const FAR_SHELL = "exec sh";

/** A host that does not answer within so many seconds, or is silent for so many times as long, is given up. */
const CONNECT_SECONDS = 20;
const ALIVE_SECONDS = 15;
const ALIVE_COUNT = 4;

/**
 * The arguments with which ssh starts a shell at the other end, behind those of the user. Nothing there opens a
 * terminal, or a port of the user's configuration that another connection holds already.
 * @param options.mayAsk whether somebody is there to answer ssh's questions (a password, an unknown host's key);
 * otherwise it fails in place of asking
 */
export function sshArguments(target: SshTarget, options: { readonly mayAsk: boolean }): string[] {
  const { user, host, port } = target;
  const settings = [
    ...(options.mayAsk ? [] : ["BatchMode=yes"]),
    `ConnectTimeout=${CONNECT_SECONDS}`,
    `ServerAliveInterval=${ALIVE_SECONDS}`,
    `ServerAliveCountMax=${ALIVE_COUNT}`,
    "ClearAllForwardings=yes",
    "RemoteCommand=none",
  ];
  return [
    "-T",
    ...settings.flatMap((setting) => ["-o", setting]),
    ...(port === undefined ? [] : ["-p", String(port)]),
    user === undefined ? host : `${user}@${host}`,
    FAR_SHELL,
  ];
}
