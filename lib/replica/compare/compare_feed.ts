/** Serves a peer of the native stream that wants no transactions but compares a copy: question and answer. */
import type { BlobDirectory, LogView, TransactionLog } from "../../filestorage/mod.ts";
import { encodeControl } from "../../native/mod.ts";
import { CompareAnswers } from "./compare_answers.ts";
import type { Line } from "../sending/service.ts";

export class CompareFeed {
  readonly #log: TransactionLog;
  readonly #line: Line;
  readonly #pause: () => Promise<void>;
  readonly #blobs: BlobDirectory | undefined;
  #mayAsk = false;
  #question: { readonly value: unknown } | undefined;

  /** @param pause lets others work during a long answer. @throws when nobody waits for it any more */
  constructor(log: TransactionLog, line: Line, pause: () => Promise<void>, blobs: BlobDirectory | undefined) {
    this.#blobs = blobs;
    this.#log = log;
    this.#line = line;
    this.#pause = pause;
  }

  /** Takes a question. @returns false where there is one already, or none may be put */
  take(question: unknown): boolean {
    if (!this.#mayAsk) return false;
    this.#mayAsk = false;
    this.#question = { value: question };
    this.#line.ring();
    return true;
  }

  /**
   * Answers of the file as it is now, whatever becomes of it, until the peer goes.
   * @param welcome tells the peer that it is welcome, and what is here
   * @throws ZrsError why it ends
   */
  async serve(welcome: (view: LogView) => Promise<void>): Promise<never> {
    const { view } = this.#log;
    const generation = view.generation.hold();
    try {
      const answers = new CompareAnswers(view, this.#pause, this.#blobs);
      this.#mayAsk = true;
      await welcome(view);
      for (;;) {
        while (this.#question === undefined) await this.#line.wait();
        const { value } = this.#question;
        this.#question = undefined;
        const answer = await this.#answer(answers, value);
        this.#mayAsk = true;
        await this.#line.write(encodeControl({ type: "answer", answer }));
      }
    } finally {
      generation.release();
    }
  }

  /** Where it cannot be answered, the peer is told why. */
  async #answer(answers: CompareAnswers, question: unknown): Promise<unknown> {
    try {
      return await answers.answer(question);
    } catch (error) {
      if (this.#line.hasEnded) throw error;
      const encode = (reason: string) => encodeControl({ type: "bye", code: "trouble", reason });
      await this.#line.tellFailure(error, encode);
      throw error;
    }
  }
}
