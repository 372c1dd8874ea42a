/** Asking the person at the terminal. */

import { writeTalk } from "./output.ts";

/** No answer is longer; what is typed behind it is left unread. */
const MAX_ANSWER_BYTES = 1024;

/** As in the Host: writes the question to standard error, and reads a line from standard input. */
export function ask(question: string): string | undefined {
  if (!Deno.stdin.isTerminal() || !Deno.stderr.isTerminal()) return undefined;
  writeTalk(question);
  const line = new Uint8Array(MAX_ANSWER_BYTES);
  // A terminal hands over whole lines; at its end (Ctrl-D) there is none.
  const count = Deno.stdin.readSync(line) ?? 0;
  return new TextDecoder().decode(line.subarray(0, count)).trim();
}
