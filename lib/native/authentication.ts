/**
 * How both ends of a connection prove to each other that they have the same secret, before either says anything of
 * its history (docs/native_protocol.md, "Authentication"). The secret never travels, and a proof is good for one
 * connection and one role only: it covers every byte of the handshake before it, with a fresh nonce of each end
 * among them. The secondary proves first, so that whoever can merely connect to a source gets nothing from which
 * the secret could be guessed.
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import { frame } from "../bytes/mod.ts";
import { RefusedError } from "../errors.ts";
import { type Control, encodeControl, type Hello, type Introduction, type Proof } from "./control.ts";

/** What both ends must have; it may be replaced while a node runs, for connections that begin after that. */
export interface Secret {
  readonly bytes: Uint8Array;
}

/** The bytes of a nonce. */
export const NONCE_BYTES = 32;

/** The other end has not our secret, or says that we have not its own: a person must see to it. */
export class SecretError extends RefusedError {}

/** What a source says next: an answer, or that it refuses, and why. */
export type HandshakeReply =
  | { readonly kind: "answer"; readonly frame: Uint8Array }
  | { readonly kind: "refusal"; readonly reason: string };

type Role = "secondary" | "source";

/** Everything said in a handshake so far, by both ends. */
class Transcript {
  readonly #secret: Uint8Array;
  readonly #frames: Uint8Array[] = [];

  constructor(secret: Uint8Array) {
    this.#secret = secret;
  }

  /** @param said a whole frame */
  add(said: Uint8Array): Uint8Array {
    this.#frames.push(said);
    return said;
  }

  proof(role: Role): Uint8Array {
    const hmac = createHmac("sha256", this.#secret).update(`zrs native stream, ${role}\0`);
    for (const each of this.#frames) hmac.update(each);
    return hmac.digest();
  }

  /** @param proof in hexadecimal digits */
  isProvedBy(proof: string, role: Role): boolean {
    return timingSafeEqual(Uint8Array.fromHex(proof), this.proof(role));
  }
}

/** The handshake at a secondary, also at one that has no secret, and begins with its hello. */
export class SecondaryHandshake {
  readonly #transcript: Transcript | undefined;
  #state: "introduced" | "proved" | "done";
  #next: Uint8Array | "hello" | undefined;

  /** @param nonce gives {@link NONCE_BYTES} bytes that nobody can foretell */
  constructor(secret: Secret | undefined, nonce: () => Uint8Array) {
    this.#transcript = secret && new Transcript(secret.bytes);
    this.#state = secret === undefined ? "done" : "introduced";
    this.#next = this.#transcript?.add(encodeControl({
      type: "introduction",
      nonce: nonce().toHex(),
      mustUnderstand: true,
    })) ?? "hello";
  }

  /** Whether the source has proved that it has the secret, or need not. */
  get isDone(): boolean {
    return this.#state === "done";
  }

  /** What the secondary is to say next, a frame or its hello; undefined while the source is to speak. */
  next(): Uint8Array | "hello" | undefined {
    const next = this.#next;
    this.#next = undefined;
    return next;
  }

  /**
   * Takes what the source says, if that is part of the handshake.
   * @param body the message as it came
   * @returns whether it was; otherwise it is for the conversation to take
   * @throws SecretError when the source does not prove that it has the secret
   */
  take(message: Control, body: Uint8Array): boolean {
    if (this.#transcript === undefined || this.isDone) return false;
    if (message.type === "refused" || message.type === "bye") return false;
    this.#next = this.#answer(this.#transcript, message, body);
    return true;
  }

  #answer(transcript: Transcript, message: Control, body: Uint8Array): Uint8Array | "hello" {
    if (message.type === "challenge" && this.#state === "introduced") {
      this.#state = "proved";
      transcript.add(frame(body));
      return transcript.add(encodeControl({ type: "proof", proof: transcript.proof("secondary").toHex() }));
    }
    if (
      message.type === "proof" && this.#state === "proved" && transcript.isProvedBy(message.proof, "source")
    ) {
      this.#state = "done";
      return "hello";
    }
    throw new SecretError("it has not proved that it has our secret: it has another secret, or none");
  }
}

/** The handshake at a source, also at one that has no secret. */
export class SourceHandshake {
  readonly #transcript: Transcript | undefined;
  readonly #nonce: () => Uint8Array;
  #state: "awaited" | "challenged" | "done" | "refused";

  /** @param nonce gives {@link NONCE_BYTES} bytes that nobody can foretell */
  constructor(secret: Secret | undefined, nonce: () => Uint8Array) {
    this.#transcript = secret && new Transcript(secret.bytes);
    this.#nonce = nonce;
    this.#state = secret === undefined ? "done" : "awaited";
  }

  /**
   * Takes what a secondary says before it has been greeted.
   * @param body the message as it came
   * @returns what to say next; undefined for a hello that is let pass, and for what follows a refusal
   */
  take(message: Introduction | Proof | Hello, body: Uint8Array): HandshakeReply | undefined {
    if (this.#state === "refused") return undefined;
    const transcript = this.#transcript;
    if (transcript === undefined) {
      return message.type === "hello" ? undefined : this.#refuse(
        "the secondary demands a secret, and this source has none: start it with --auth-file",
      );
    }
    if (this.#state === "done" && message.type === "hello") return undefined;
    if (this.#state === "awaited" && message.type === "introduction") {
      this.#state = "challenged";
      transcript.add(frame(body));
      return answer(transcript.add(encodeControl({ type: "challenge", nonce: this.#nonce().toHex() })));
    }
    if (this.#state === "challenged" && message.type === "proof") {
      if (transcript.isProvedBy(message.proof, "secondary")) {
        this.#state = "done";
        transcript.add(frame(body));
        return answer(encodeControl({ type: "proof", proof: transcript.proof("source").toHex() }));
      }
      return this.#refuse(
        "the secondary has another secret than this source: give both the same --auth-file",
      );
    }
    return this.#refuse(
      "this source demands a secret, and the secondary has not proved that it has one: " +
        "start it with --auth-file",
    );
  }

  /** Whether a hello may be served: the secret was proved, or none is demanded. */
  get isDone(): boolean {
    return this.#state === "done";
  }

  #refuse(reason: string): HandshakeReply {
    this.#state = "refused";
    return { kind: "refusal", reason };
  }
}

function answer(frame: Uint8Array): HandshakeReply {
  return { kind: "answer", frame };
}
