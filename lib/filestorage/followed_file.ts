/**
 * A Data.fs that another process writes, followed read-only: no lock, no write, nothing its owner could
 * notice. {@link FollowedFile.refresh} looks what has changed; the view grows by transactions that are whole,
 * final, and synced through our own handle, so that nobody downstream gets ahead of the source's disk.
 *
 * Survives: half-written and voted transactions at the end, later finished or cut away; packs (the path gets
 * another file; the old one is read to its end first, since the swap happens between two commits); the path
 * being absent for a moment; a tail lost in a crash or a restored backup, which is told by tid.
 */
import { CorruptError, NotFoundError, UsageError } from "../errors.ts";
import type { Disk } from "../ports/mod.ts";
import { NO_TID, STATUS } from "../zodb/mod.ts";
import { findEnd } from "./file_end.ts";
import { FIRST_POSITION } from "./layout.ts";
import { locateTid, TidMap, walkingReader } from "./locate.ts";
import { Generation, type LogView, Subscribers, type TransactionLog } from "./log.ts";
import { directoryOf, readMagic } from "./open.ts";
import { TransactionReader } from "./transaction.ts";
import { Window } from "./window.ts";

/** After so many transactions a walk lets others run. */
const STEPS_BETWEEN_PAUSES = 20_000;

/** What {@link FollowedFile.refresh} found, for the log. */
export type Change =
  | { readonly kind: "grown"; readonly lastTid: bigint }
  /** The path has another file, with all the history that was read before, or packed. */
  | { readonly kind: "replaced"; readonly lastTid: bigint }
  /** Transactions that were read before are gone: those after `to`, up to `from`. */
  | { readonly kind: "rolled back"; readonly from: bigint; readonly to: bigint }
  | { readonly kind: "absent" }
  | { readonly kind: "back" }
  /** What stands at the end cannot be read; told once for each place. */
  | { readonly kind: "unreadable"; readonly problem: string };

export class FollowedFile implements TransactionLog {
  readonly path: string;
  readonly #disk: Disk;
  readonly #pause: () => Promise<void>;
  readonly #subscribers = new Subscribers();
  readonly #reader: TransactionReader;
  #view: LogView;
  #absent = false;
  #problem: string | undefined;
  #closed = false;
  /** Asks whoever calls {@link refresh} to do so. */
  onAsked: () => void = () => {};
  #asking: (() => void)[] = [];

  private constructor(disk: Disk, path: string, pause: () => Promise<void>, view: LogView) {
    this.#disk = disk;
    this.path = path;
    this.#pause = pause;
    this.#view = view;
    this.#reader = new TransactionReader(new Window(view.generation.file, 0));
  }

  /**
   * @param pause lets other work run during a long walk through the file
   * @throws NotFoundError, UsageError (not a FileStorage, a directory, no permission), DiskError
   */
  static async open(disk: Disk, path: string, pause: () => Promise<void>): Promise<FollowedFile> {
    const view = await openView(disk, path, 0, pause);
    return new FollowedFile(disk, path, pause, view);
  }

  get view(): LogView {
    return this.#view;
  }

  /** Why nothing behind the view can be read, where that is damage; as of the last {@link refresh}. */
  get problem(): string | undefined {
    return this.#problem;
  }

  subscribe(changed: () => void): Disposable {
    return this.#subscribers.add(changed);
  }

  lookAgain(): Promise<void> {
    return new Promise((resolve) => {
      this.#asking.push(resolve);
      this.onAsked();
    });
  }

  /**
   * Looks what has changed since the last time. One call at a time.
   * @throws DiskError
   */
  async refresh(): Promise<Change[]> {
    const asking = this.#asking;
    this.#asking = [];
    try {
      const changes = await this.#refresh();
      for (const answer of asking) answer();
      return changes;
    } catch (error) {
      this.#asking.unshift(...asking); // they wait until the file can be read again
      throw error;
    }
  }

  async #refresh(): Promise<Change[]> {
    const changes: Change[] = [];
    const before = this.#view;
    const status = this.#disk.status(this.path);
    const isAbsent = status === undefined;
    const isReplaced = !isAbsent && status.identity !== before.generation.file.identity();
    let problem: string | undefined;
    if (!isAbsent && this.#absent) changes.push({ kind: "back" });
    if (isAbsent && !this.#absent) changes.push({ kind: "absent" });
    this.#absent = isAbsent;
    try {
      const isRolledBack = !isIntact(before);
      if (isReplaced || (isRolledBack && !isAbsent)) problem = await this.#reopen(changes, isRolledBack);
      else if (!isRolledBack) problem = await this.#advance(changes);
    } finally {
      if (this.#view !== before) this.#subscribers.notify();
    }
    if (problem !== undefined && problem !== this.#problem) changes.push({ kind: "unreadable", problem });
    this.#problem = problem;
    return changes;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#view.generation.release();
  }

  /** Shows what has come in the file that is open. @returns what stops it there, if that is damage */
  async #advance(changes: Change[]): Promise<string | undefined> {
    const { view, problem } = await this.#readOn();
    if (view.lastTid !== this.#view.lastTid) changes.push({ kind: "grown", lastTid: view.lastTid });
    this.#view = view;
    return problem;
  }

  /** Reads on in the file that is open, up to what stops it there, which may be damage. */
  async #readOn(): Promise<{ view: LogView; problem: string | undefined }> {
    const { generation } = this.#view;
    const { file } = generation;
    const reader = this.#reader;
    reader.window.reset(file, file.size());
    let { end, lastTid } = this.#view;
    const passed = new TidMap();
    let state = reader.read(end);
    for (let steps = 1; state === "whole"; steps++) {
      if (reader.status !== STATUS.undone) {
        lastTid = reader.tid;
        passed.note(lastTid, end);
      }
      end = reader.end;
      if (steps % STEPS_BETWEEN_PAUSES === 0) await this.#pause();
      state = reader.read(end);
    }
    const problem = state === "damaged"
      ? `the transaction at ${end} cannot be read: ${reader.damage}`
      : undefined;
    if (end === this.#view.end) return { view: this.#view, problem };
    await file.sync();
    const view = { generation, end, lastTid };
    if (!isIntact(view)) return { view: this.#view, problem }; // its owner has cut it meanwhile
    generation.map.noteAll(passed); // only now: what was not synced may be gone, and others in its place
    return { view, problem };
  }

  /**
   * Goes on with the file that is at the path now. What had still come in the old one counts only where the new
   * one goes on behind it, as after a pack: a restored backup takes it away.
   * @returns why that cannot be done
   */
  async #reopen(changes: Change[], isRolledBack: boolean): Promise<string | undefined> {
    const old = this.#view;
    const number = old.generation.number + 1;
    try {
      const last = isRolledBack ? old : (await this.#readOn()).view;
      const view = await openView(this.#disk, this.path, number, this.#pause);
      try {
        const change = await this.#compare(last, view);
        if (change.kind === "replaced" && last.lastTid !== old.lastTid) {
          changes.push({ kind: "grown", lastTid: last.lastTid });
        }
        changes.push(change.kind === "replaced" ? change : await this.#compare(old, view));
      } catch (error) {
        view.generation.release();
        throw error;
      }
      this.#view = view;
      old.generation.release();
    } catch (error) {
      if (error instanceof NotFoundError) return undefined; // gone again: the next refresh tells
      if (error instanceof UsageError || error instanceof CorruptError) return error.message;
      throw error;
    }
    return undefined;
  }

  /** What has become of the old view's history in the new one. */
  async #compare(old: LogView, view: LogView): Promise<Change> {
    const { generation, end, lastTid } = view;
    const replaced: Change = { kind: "replaced", lastTid };
    if (old.lastTid === NO_TID) return replaced;
    const reader = walkingReader(generation.file, end);
    const location = await locateTid(reader, end, old.lastTid, generation.map, this.#pause);
    if (location.kind === "found") return replaced;
    const { before, after } = location;
    if ((before ?? after)?.status === STATUS.packed) return replaced;
    return { kind: "rolled back", from: old.lastTid, to: before?.tid ?? NO_TID };
  }
}

/** Whether the last transaction of the view still stands where it stood. */
function isIntact(view: LogView): boolean {
  const { file } = view.generation;
  if (view.end <= FIRST_POSITION) return true;
  if (file.size() < view.end) return false;
  const reader = new TransactionReader(new Window(file, view.end, 64));
  const start = reader.startOf(view.end);
  return start >= FIRST_POSITION && reader.read(start) === "whole" && reader.end === view.end &&
    (reader.status === STATUS.undone || reader.tid === view.lastTid);
}

async function openView(
  disk: Disk,
  path: string,
  number: number,
  pause: () => Promise<void>,
): Promise<LogView> {
  for (;;) {
    const file = disk.openRead(path);
    try {
      readMagic(file);
      const { end, lastTid } = await findEnd(disk, path, file, pause);
      await file.sync();
      // Python's pack syncs nothing: without this a power loss could put the file before the pack back, and with
      // it take away what has been committed and sent on since.
      await disk.syncDirectory(directoryOf(path));
      const view = { generation: new Generation(number, file), end, lastTid };
      if (disk.status(path)?.identity === file.identity() && isIntact(view)) return view;
    } catch (error) {
      file.close();
      throw error;
    }
    // Replaced again meanwhile, and another file's name is on disk; or cut by its owner, who has just opened it.
    file.close();
  }
}
