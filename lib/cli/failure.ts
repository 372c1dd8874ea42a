/** How a command that fails says so: one line on standard error. */

import { NotFoundError, ZrsError } from "../errors.ts";
import { originOf } from "./exit_codes.ts";
import { oneLine } from "./quantities.ts";

/** `zrs COMMAND: message; hint`, without a line end. */
export function formatFailure(program: string, error: unknown): string {
  const origin = originOf(error);
  const [message, hint] = origin instanceof ZrsError
    ? [origin.message, origin.hint ?? (origin instanceof NotFoundError ? "check the path" : undefined)]
    : [`Stopped by a bug of ours: ${wordsOf(origin)}`, "please report it with the log"];
  return oneLine(`${program}: ${withHint(message, hint)}`);
}

/** `message; hint`. */
export function withHint(message: string, hint: string | undefined): string {
  return hint === undefined ? message : `${message}; ${lowerFirst(hint)}`;
}

function wordsOf(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
}

/** A hint follows a semicolon; names in capitals, such as DATA_FS, stay. */
function lowerFirst(hint: string): string {
  return /^[A-Z](?![A-Z_])/.test(hint) ? hint[0]!.toLowerCase() + hint.slice(1) : hint;
}
