/**
 * What may stand at the end of a Data.fs, and what each who meets it has to do: a reader of single
 * transactions, an owner who opens the file for writing, a follower, and real ZODB as an owner.
 */
import type { TransactionState } from "../../lib/filestorage/mod.ts";
import {
  type BuiltFile,
  dataFs,
  type TransactionDamage,
  type TransactionDescription,
} from "../kit/data_fs.ts";
import { tidAt } from "./random_history.ts";

/** What an owner does with the tail; `keeps`: it is whole transactions. */
export type Deed = "keeps" | "cuts" | "cuts and saves" | "refuses";

export interface Tail {
  readonly name: string;
  readonly bytes: Uint8Array;
  /** What the reader sees at the tail's beginning. */
  readonly state: TransactionState;
  readonly owner: Deed;
  /** What the follower says; undefined: it waits in silence, or takes the tail if that is whole. */
  readonly problem?: RegExp;
  /** Where real ZODB does something else as owner, and why we do not follow it. */
  readonly zodb?: { readonly does: Deed; readonly why: string };
}

/** Two transactions, the whole beginning of every file here. */
const BEGINNING: readonly TransactionDescription[] = [
  { tid: tidAt(0), description: "initial database creation", records: [{ oid: 0n, data: "root" }] },
  { tid: tidAt(1), records: [{ oid: 0n, data: "changed" }, { oid: 1n, data: "one" }] },
];

export const BEFORE: BuiltFile = dataFs(BEGINNING);
export const LAST_TID = tidAt(1);

const NEXT: TransactionDescription = {
  tid: tidAt(2),
  user: "bob",
  records: [{ oid: 0n, data: "third" }, { oid: 1n, backPointer: [1, 1] }, { oid: 2n, data: "new" }],
};

/** The bytes of one more transaction, or several, as they stand behind the beginning. */
function bytesOf(...transactions: TransactionDescription[]): Uint8Array {
  return dataFs([...BEGINNING, ...transactions]).bytes.slice(BEFORE.end);
}

function damaged(damage: TransactionDamage): Uint8Array {
  return bytesOf({ ...NEXT, damage });
}

const WHOLE = bytesOf(NEXT);
const LENGTH = BigInt(WHOLE.length - 8);
const VOTED = bytesOf({ ...NEXT, status: "c" });
const LATER: TransactionDescription = { tid: tidAt(3), records: [{ oid: 5n, data: "behind" }] };

const NO_FENCES = "it saves a bare header too; ours leaves such fences itself, and nothing is in them";
const UNICODE = "it fails to decode the byte, and so to open the file at all";
const ANY_STATUS = "it takes any ASCII byte for a committed transaction's status; here it is damage";

export const TAILS: readonly Tail[] = [
  { name: "nothing", bytes: new Uint8Array(), state: "end", owner: "keeps" },
  { name: "one byte", bytes: WHOLE.slice(0, 1), state: "short", owner: "cuts" },
  { name: "all but one byte of a header", bytes: WHOLE.slice(0, 22), state: "short", owner: "cuts" },
  {
    name: "a header",
    bytes: WHOLE.slice(0, 23),
    state: "beyond",
    owner: "cuts",
    zodb: { does: "cuts and saves", why: NO_FENCES },
  },
  {
    name: "a voted header",
    bytes: VOTED.slice(0, 23),
    state: "voted",
    owner: "cuts",
    zodb: { does: "cuts and saves", why: NO_FENCES },
  },
  { name: "half a transaction", bytes: WHOLE.slice(0, 90), state: "beyond", owner: "cuts and saves" },
  { name: "all but the last byte", bytes: WHOLE.slice(0, -1), state: "beyond", owner: "cuts and saves" },
  { name: "half a voted transaction", bytes: VOTED.slice(0, 90), state: "voted", owner: "cuts and saves" },
  { name: "a whole voted transaction", bytes: VOTED, state: "voted", owner: "cuts and saves" },
  {
    name: "a voted transaction and a committed one behind it",
    bytes: bytesOf({ ...NEXT, status: "c" }, LATER),
    state: "voted",
    owner: "cuts and saves",
  },
  { name: "a committed transaction", bytes: WHOLE, state: "whole", owner: "keeps" },
  { name: "a packed transaction", bytes: bytesOf({ ...NEXT, status: "p" }), state: "whole", owner: "keeps" },
  {
    name: "a cancelled transaction",
    bytes: bytesOf({ ...NEXT, status: "u" }),
    state: "whole",
    owner: "keeps",
  },
  {
    name: "a transaction without records",
    bytes: bytesOf({ ...NEXT, records: [] }),
    state: "whole",
    owner: "keeps",
  },
  { name: "the last tid again", bytes: damaged({ tid: tidAt(1) }), state: "whole", owner: "keeps" },
  { name: "an earlier tid", bytes: damaged({ tid: tidAt(0) }), state: "whole", owner: "keeps" },
  {
    name: "a wrong previous position",
    bytes: bytesOf({ ...NEXT, records: [{ oid: 0n, data: "third", previous: "none" }] }),
    state: "whole",
    owner: "keeps",
  },
  { name: "22 zeros", bytes: new Uint8Array(22), state: "short", owner: "cuts" },
  {
    name: "23 zeros",
    bytes: new Uint8Array(23),
    state: "damaged",
    owner: "cuts",
    problem: /status must be .* found byte 0x0$/,
    zodb: { does: "cuts and saves", why: NO_FENCES },
  },
  {
    name: "a block of zeros",
    bytes: new Uint8Array(4096),
    state: "damaged",
    owner: "cuts and saves",
    problem: /status must be .* found byte 0x0$/,
  },
  {
    name: "ASCII garbage",
    bytes: new TextEncoder().encode("A".repeat(200)),
    state: "beyond",
    owner: "cuts and saves",
  },
  {
    name: "bytes 0xff",
    bytes: new Uint8Array(200).fill(0xff),
    state: "beyond",
    owner: "cuts and saves",
    zodb: { does: "refuses", why: UNICODE },
  },
  {
    name: "a length one too large",
    bytes: damaged({ length: LENGTH + 1n }),
    state: "beyond",
    owner: "cuts and saves",
  },
  {
    name: "the largest length",
    bytes: damaged({ length: 0xffff_ffff_ffff_ffffn }),
    state: "beyond",
    owner: "cuts and saves",
  },
  {
    name: "a length one too small",
    bytes: damaged({ length: LENGTH - 1n }),
    state: "damaged",
    owner: "refuses",
    problem: /trailing length must be/,
  },
  {
    name: "a length shorter than the header, the trailer right",
    bytes: damaged({ length: 10n }),
    state: "damaged",
    owner: "refuses",
    problem: /length must be at least 26, found 10$/,
  },
  {
    name: "a length shorter than the header, the trailer too",
    bytes: damaged({ length: 10n, trailer: 10n }),
    state: "damaged",
    owner: "cuts and saves",
    problem: /length must be at least 26, found 10$/,
  },
  {
    name: "a length shorter than the header, the trailer too large",
    bytes: damaged({ length: 10n, trailer: 1n << 40n }),
    state: "damaged",
    owner: "cuts and saves",
    problem: /length must be at least 26, found 10$/,
  },
  {
    name: "a user longer than the transaction",
    bytes: damaged({ userLength: 60_000 }),
    state: "damaged",
    owner: "refuses",
    problem: /length must be at least 60023/,
  },
  {
    name: "a trailer one too large",
    bytes: damaged({ trailer: LENGTH + 1n }),
    state: "damaged",
    owner: "refuses",
    problem: /trailing length must be/,
  },
  {
    name: "a trailer of zeros",
    bytes: damaged({ trailer: 0n }),
    state: "damaged",
    owner: "refuses",
    problem: /trailing length must be .* found 0$/,
  },
  {
    name: "a cancelled transaction with a wrong trailer",
    bytes: bytesOf({ ...NEXT, status: "u", damage: { trailer: LENGTH + 1n } }),
    state: "damaged",
    owner: "refuses",
    problem: /trailing length must be/,
  },
  {
    name: "an unknown status",
    bytes: damaged({ status: 0x78 }),
    state: "damaged",
    owner: "refuses",
    problem: /status must be .* found byte 0x78$/,
    zodb: { does: "keeps", why: ANY_STATUS },
  },
  {
    name: "a status that is no ASCII",
    bytes: damaged({ status: 0xa0 }),
    state: "damaged",
    owner: "refuses",
    problem: /status must be .* found byte 0xa0$/,
  },
  {
    name: "half a transaction with a status that is no ASCII",
    bytes: damaged({ status: 0xa0 }).slice(0, 90),
    state: "beyond",
    owner: "cuts and saves",
    zodb: { does: "refuses", why: UNICODE },
  },
  {
    name: "a record of another transaction",
    bytes: bytesOf({ ...NEXT, records: [{ oid: 2n, data: "new", damage: { transaction: 4n } }] }),
    state: "whole",
    owner: "refuses",
  },
  {
    name: "a record shorter than its data",
    bytes: bytesOf({ ...NEXT, records: [{ oid: 2n, data: "new", damage: { dataLength: 2n } }] }),
    state: "whole",
    owner: "refuses",
  },
  {
    name: "a record longer than its transaction",
    bytes: bytesOf({ ...NEXT, records: [{ oid: 2n, data: "new", damage: { dataLength: 4n } }] }),
    state: "whole",
    owner: "refuses",
  },
  {
    name: "a record of 2^64-1 bytes",
    bytes: bytesOf({
      ...NEXT,
      records: [{ oid: 2n, data: "new", damage: { dataLength: 0xffff_ffff_ffff_ffffn } }],
    }),
    state: "whole",
    owner: "refuses",
  },
  {
    name: "a record in a version",
    bytes: bytesOf({ ...NEXT, records: [{ oid: 2n, data: "new", damage: { versionLength: 3 } }] }),
    state: "whole",
    owner: "refuses",
  },
  {
    name: "a back pointer that leads forwards",
    bytes: bytesOf({ ...NEXT, records: [{ oid: 2n, undone: true, damage: { backPointer: 1n << 40n } }] }),
    state: "whole",
    owner: "refuses",
    zodb: { does: "keeps", why: "it does not look at back pointers before it follows them" },
  },
];
