/**
 * A conversation of the native stream in which a source is asked and replicates nothing: as a secondary begins it,
 * with the secret where there is one, and then message by message. What is asked, and what the answers mean, is for
 * whoever asks. Writes nothing.
 */
import { ProtocolError, UnavailableError } from "../errors.ts";
import {
  type Control,
  encodeControl,
  NativeDecoder,
  type NativeHandler,
  NONCE_BYTES,
  SecondaryHandshake,
  type Secret,
} from "../native/mod.ts";
import type { Clock, Connection, Random } from "../ports/mod.ts";
import { DEFAULT_BUFFER_SIZES } from "./buffers.ts";
import { DEFAULT_PEER_TIMEOUT_MS } from "./primary.ts";
import { readWithin } from "./receiving/intake.ts";
import { Speaker } from "./speaker.ts";

export interface QueryPorts {
  readonly clock: Clock;
  readonly random: Random;
}

export interface QueryOptions {
  /** Name and version of this program, for the source's log. */
  readonly software: string;
  /** A source that says nothing for so long is given up. */
  readonly peerTimeoutMs?: number | undefined;
  /** The source must prove that it has it, too. */
  readonly secret?: Secret | undefined;
  /** What a person can do where the source cannot tell. */
  readonly hint?: string;
}

/** Who asks. */
export interface Asker {
  /** What the source is greeted with. */
  hello(): Control | Promise<Control>;
  /** Takes what the source says. @returns false for what no source says here */
  take(message: Control): boolean;
  /** The failure that it is where the source does not speak the native stream. */
  notNative(cause: Error): UnavailableError;
}

export class SourceQuery implements NativeHandler, Disposable {
  readonly #clock: Clock;
  readonly #name: string;
  readonly #connection: Connection;
  readonly #timeoutMs: number;
  readonly #asker: Asker;
  readonly #speaker: Speaker;
  readonly #decoder = new NativeDecoder();
  readonly #handshake: SecondaryHandshake;
  readonly #chunk = new Uint8Array(DEFAULT_BUFFER_SIZES.readBytes);
  #heard = false;
  #failure: unknown;

  /** @param name of the source, for messages */
  constructor(
    { clock, random }: QueryPorts,
    name: string,
    connection: Connection,
    { secret, peerTimeoutMs }: QueryOptions,
    asker: Asker,
  ) {
    this.#clock = clock;
    this.#name = name;
    this.#connection = connection;
    this.#timeoutMs = peerTimeoutMs ?? DEFAULT_PEER_TIMEOUT_MS;
    this.#asker = asker;
    this.#speaker = new Speaker({ clock }, connection, this.#timeoutMs);
    this.#handshake = new SecondaryHandshake(secret, () => random.bytes(NONCE_BYTES));
  }

  /** Whether the source has still to prove that it has our secret. */
  get isUnproved(): boolean {
    return !this.#handshake.isDone;
  }

  /** Whether something that was said waits to be taken. */
  get isBusy(): boolean {
    return this.#speaker.isBusy;
  }

  /** Resolves when it has been taken, or the connection has ended. */
  async say(message: Control): Promise<void> {
    await this.#speaker.say(encodeControl(message));
  }

  /**
   * Says what the beginning of the conversation still wants, and takes what comes next.
   * @throws UnavailableError, ProtocolError, SecretError, and what the asker throws
   */
  async advance(): Promise<void> {
    const next = this.#handshake.next();
    if (next === "hello") await this.say(await this.#asker.hello());
    else if (next !== undefined) await this.#speaker.say(next);
    const silence = `${this.#name} has said nothing`;
    try {
      const count = await readWithin(this.#clock, this.#connection, this.#chunk, this.#timeoutMs, silence);
      this.#decoder.push(this.#chunk, 0, count, this);
    } catch (error) {
      const isOther = error instanceof UnavailableError || error instanceof ProtocolError;
      if (!this.#heard && isOther) throw this.#asker.notNative(error);
      this.#failure = error;
      throw error;
    }
  }

  /** What follows is not for us. */
  halt(): void {
    this.#decoder.halt();
  }

  /**
   * Says goodbye.
   * @param reason where all is well
   * @param failure that ends the conversation; the source is told where it has broken the protocol
   */
  async bye(reason: string, failure: unknown = this.#failure): Promise<void> {
    const isTrouble = failure instanceof ProtocolError;
    await this.say({
      type: "bye",
      code: isTrouble ? "trouble" : "stopping",
      reason: isTrouble ? failure.message : reason,
    });
  }

  /** Ends the connection. */
  [Symbol.dispose](): void {
    this.#speaker.stop();
    this.#connection.close();
  }

  control(message: Control, body: Uint8Array): void {
    this.#heard = true;
    if (this.#handshake.take(message, body)) return;
    if (message.type === "bye") {
      throw new UnavailableError(`Cannot compare with ${this.#name}: it says goodbye: ${message.reason}`);
    }
    if (this.#asker.take(message)) return;
    throw new ProtocolError(`Cannot take message ${message.type}: no source says that here`);
  }
}
