/** How much of a pickle we are willing to follow, whoever wrote it. */
import { PickleError } from "../errors.ts";

/** A pickle of 64 KiB, which is all that a FileStorage takes, cannot have more; nor can its unshared form. */
export const MAX_OPCODES = 400_000;

/** Python's own unpickler makes an array of twice the greatest memo index. */
export const MAX_MEMO_INDEX = 400_000;

/** The longest number, in bytes: no extension can hold a longer one. */
export const MAX_INT_BYTES = 65_536;

/** Python 3.11 and later read and write no decimal number that is longer. */
export const MAX_DECIMAL_DIGITS = 4300;

/** Containers nested deeper than this are not written: Python's own pickler stops at about twice as many. */
export const MAX_NESTING = 500;

/** A pickle is longer than we are willing to follow or to write; it may be a good one. */
export class PickleLimitError extends PickleError {}
