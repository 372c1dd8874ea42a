/**
 * Replicas that take back by themselves what their source lacks (`--rewind auto`): what they have shown may go
 * then, but only within the limit, only when it lies in a file of its own by then, and never all of it. And it
 * must be true that the source lacks it.
 */
import type { Report } from "./checkers.ts";
import { hex } from "./checkers.ts";
import type { MachineDisk } from "./disk.ts";
import { FileView, sameBytes, sayTheSame } from "./file_view.ts";
import type { FoundTransaction } from "./source_format.ts";

const SAVED = /\.rewound-[0-9a-f]{16}(\.\d+)?$/;

/** The files with what was rewound that are sure to be there after a power loss. */
export function durablySaved(disk: MachineDisk): FileView[] {
  return [...disk.names.entries()].filter(([path]) => SAVED.test(path)).map(([path]) =>
    FileView.of(disk.names.durable(path)?.durableBytes() ?? new Uint8Array(0))
  );
}

/** The same in what a power loss would leave. */
export function savedIn(files: ReadonlyMap<string, Uint8Array>): FileView[] {
  return [...files].filter(([path]) => SAVED.test(path)).map(([, bytes]) => FileView.of(bytes));
}

export class RewindChecker {
  /** How many transactions may go; 0 for none. */
  readonly limit: number;
  /** How many times it has rewound. */
  count = 0;
  readonly #name: string;
  readonly #report: Report;
  /** What the replica has shown, as it lay in its file. */
  #shown = new FileView();
  /** What went last, and the file as it was before. */
  #lost: { readonly transactions: readonly FoundTransaction[]; readonly view: FileView } | undefined;
  /** Since the process was started, or since the source has sent something new. */
  #takenBack = 0;
  /** The source's transactions when the replica connected. */
  #source = new FileView();

  constructor(name: string, limit: number, report: Report) {
    this.#name = name;
    this.limit = limit;
    this.#report = report;
  }

  /** How many may still go. */
  get left(): number {
    return this.limit - this.#takenBack;
  }

  /** The process is started: it does not know what the one before has taken back. */
  started(): void {
    this.#takenBack = 0;
  }

  /** It has connected to a source that has this file. */
  connected(source: FileView): void {
    this.#source = new FileView();
    this.#source.append(source.transactions);
  }

  /** The replica shows transactions up to this one of its file from now on. */
  shows(tid: bigint, durable: FileView): void {
    const shown = new FileView();
    shown.append(durable.transactions.slice(0, durable.indexOf(tid) + 1));
    const kept = countOfSame(this.#shown, shown);
    const lost = this.#shown.transactions.slice(kept);
    if (shown.transactions.length > kept) this.#takenBack = 0;
    this.#takenBack += lost.length;
    if (lost.length > 0) this.#lost = { transactions: lost, view: this.#shown };
    this.#shown = shown;
    if (this.left < 0) {
      this.#broken(
        `has taken back ${this.#takenBack} transactions in all, and no more than ${this.limit} may go`,
      );
    }
  }

  /**
   * Why this cannot be what a rewind has left; undefined when it can.
   * @param saved gives the files with what was rewound
   */
  objection(view: FileView, saved: () => readonly FileView[]): string | undefined {
    if (this.limit === 0) return "it must not rewind";
    const kept = countOfSame(this.#shown, view);
    const lost = this.#shown.transactions.slice(kept);
    if (kept === 0) return "nothing would be left";
    if (lost.length > this.limit) return `${lost.length} are gone, and no more than ${this.limit} may`;
    const files = saved();
    const missing = lost.find((each) => !files.some((file) => holds(file, each, this.#shown)));
    return missing === undefined ? undefined : `${hex(missing.tid)} is in no file with what was taken back`;
  }

  /**
   * The replica says that it has rewound.
   * @param source the file of its source, as it is now
   * @param read gives what is in a file
   */
  told(message: string, source: FileView, read: (path: string) => Uint8Array | undefined): void {
    const [, path] = /^Rewound .* taken back: .*, saved in (\S+)$/.exec(message) ?? [];
    if (path === undefined) return;
    this.count++;
    const lost = this.#lost;
    this.#lost = undefined;
    if (lost === undefined) return this.#broken("says that it has rewound, and has all that it had");
    const file = FileView.of(read(path) ?? new Uint8Array(0));
    const isSaved = file.outcome === "whole" && file.transactions.length === lost.transactions.length &&
      lost.transactions.every((each) => holds(file, each, lost.view));
    if (!isSaved) this.#broken(`says that what it has taken back is in ${path}, and it is not`);
    if (message.includes("is not known for sure")) return;
    const first = lost.transactions[0]!;
    // Where the source itself changed meanwhile, what it lacked once it may have again.
    if (holds(this.#source, first, lost.view) && holds(source, first, lost.view)) {
      this.#broken(`has taken back ${hex(first.tid)}, which its source has`);
    }
  }

  /** The operator begins anew. */
  forget(): void {
    this.#shown = new FileView();
    this.#lost = undefined;
    this.#takenBack = 0;
  }

  #broken(what: string): void {
    this.#report("RewindChecker", `${this.#name} ${what}`);
  }
}

function holds(file: FileView, transaction: FoundTransaction, view: FileView): boolean {
  const found = file.transactions[file.indexOf(transaction.tid)];
  return found !== undefined && sayTheSame(transaction, view, found, file);
}

/** How many of the first transactions are the same bytes in both. */
function countOfSame(a: FileView, b: FileView): number {
  const differs = a.transactions.findIndex((transaction, i) => {
    const other = b.transactions[i];
    return other === undefined || !sameBytes(transaction.bytes, other.bytes);
  });
  return differs < 0 ? a.transactions.length : differs;
}
