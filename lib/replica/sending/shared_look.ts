/**
 * Asking a log to look again, for any number of feeds at once. While the log cannot, those that have gone leave
 * nothing behind: one question is under way at most.
 */
import type { TransactionLog } from "../../filestorage/mod.ts";

export class SharedLook {
  readonly #log: TransactionLog;
  /** Answered by the look that has been asked for. */
  #asked = new Set<() => void>();
  /** They came after that, so it may not show what they want to see: answered by the next. */
  #next = new Set<() => void>();
  #isUnderWay = false;

  constructor(log: TransactionLog) {
    this.#log = log;
  }

  /** Calls back once the log shows what is on disk now, unless disposed of before. */
  ask(answer: () => void): Disposable {
    const own = () => answer();
    this.#next.add(own);
    if (!this.#isUnderWay) this.#begin();
    return {
      [Symbol.dispose]: () => {
        this.#asked.delete(own);
        this.#next.delete(own);
      },
    };
  }

  #begin(): void {
    [this.#asked, this.#next] = [this.#next, this.#asked];
    this.#isUnderWay = true;
    void this.#log.lookAgain().then(() => {
      this.#isUnderWay = false;
      const answers = [...this.#asked];
      this.#asked.clear();
      for (const answer of answers) answer();
      if (this.#next.size > 0 && !this.#isUnderWay) this.#begin();
    });
  }
}
