/**
 * Both sides of a TLS handshake over a connection. `node:tls` it is because `Deno.listenTls` takes a client
 * without a certificate; what it leaves open, tls_peer.ts looks at.
 */

import { isIP } from "node:net";
import { Duplex } from "node:stream";
import tls, { type TLSSocket } from "node:tls";
import { UnavailableError, UsageError } from "../errors.ts";
import type { Clock, Connection } from "../ports/mod.ts";
import { codeOf, wordsOf } from "./failure.ts";
import { abortWords } from "./network_failure.ts";
import { Carrier } from "./tls_carrier.ts";
import { TlsConnection } from "./tls_connection.ts";
import type { Credentials, TlsFiles } from "./tls_files.ts";
import { wrongWithPeer } from "./tls_peer.ts";
import { BOTH_OR_NEITHER, tlsWords } from "./tls_words.ts";

/** Who has not proved in this time who it is, will not. */
const HANDSHAKE_TIMEOUT_MS = 10_000;

/**
 * The runtime only asks for the certificate and gives its verdict; tls_peer.ts decides, for if the runtime did,
 * nobody would learn why. Until it has, no byte of ours has been sent or of theirs been read.
 */
const ASKING = { minVersion: "TLSv1.2", requestCert: true, rejectUnauthorized: false } as const;

export interface HandshakeOptions {
  readonly credentials: Credentials;
  readonly clock: Clock;
  /** Gives up. */
  readonly signal?: AbortSignal | undefined;
}

/** How a handshake ends: with a socket on which the runtime knows both ends, or with words that say why not. */
interface Outcome {
  secured(socket: TLSSocket): void;
  failed(words: string, cause?: unknown): void;
}

/**
 * The side that has connected.
 * @param name what the other end's certificate must be for: a host's name or address; undefined: anything
 * @throws UnavailableError whose message is the reason alone; the connection is closed then
 */
export function secureAsClient(
  connection: Connection,
  name: string | undefined,
  options: HandshakeOptions,
): Promise<TlsConnection> {
  const { cert, key, ca } = options.credentials;
  return handshake(connection, { isClient: true, name }, options, (carrier, { secured, failed }) => {
    const socket = tls.connect({
      // The types want a socket; any stream will do, says the documentation.
      socket: carrier as unknown as TLSSocket,
      ...{ cert, key, ca, ...ASKING },
      ...(name !== undefined && isIP(name) === 0 && { servername: name }),
      checkServerIdentity: () => undefined,
    });
    socket.on("secureConnect", () => secured(socket));
    socket.on("error", (error) => failed(endWords(carrier, error), error));
    socket.on("close", () => failed(endWords(carrier), carrier.failure));
  });
}

/**
 * The side that has accepted the connection. A client must present a certificate.
 * @throws UnavailableError as above
 */
export function secureAsServer(
  connection: Connection,
  options: HandshakeOptions,
): Promise<TlsConnection> {
  const { cert, key, ca } = options.credentials;
  return handshake(connection, { isClient: false }, options, (carrier, { secured, failed }) => {
    const server = tls.createServer({
      ...{ cert, key, ca, ...ASKING },
      handshakeTimeout: -1, // the deadline is ours: the runtime's would keep all of a failed handshake for so long
    });
    server.on("secureConnection", (socket) => {
      // With what comes later its connection deals.
      socket.on("error", () => {});
      secured(socket);
    });
    server.on("tlsClientError", (error) => failed(endWords(carrier, error), error));
    server.emit("connection", carrier);
  });
}

/**
 * The runtime builds what it needs from certificate and key only when a handshake begins: begins one.
 * @throws UsageError when it cannot
 */
export async function checkUsable({ cert, key, ca }: Credentials, files: TlsFiles): Promise<void> {
  const begun = Promise.withResolvers<void>();
  const nowhere = new Duplex({
    read() {},
    write(_chunk, _encoding, done) {
      begun.resolve();
      done();
    },
  });
  try {
    const socket = tls.connect({ socket: nowhere as unknown as TLSSocket, ...{ cert, key, ca } });
    socket.on("error", begun.reject);
    await begun.promise;
  } catch (cause) {
    throw new UsageError(`Cannot use ${files.cert} with ${files.key}: ${wordsOf(cause)}`, {
      path: files.key,
      cause,
      hint: "Use a key of RSA with 2048 bits or more, P-256, P-384 or Ed25519",
    });
  } finally {
    nowhere.destroy();
  }
}

function handshake(
  connection: Connection,
  { isClient, name }: { readonly isClient: boolean; readonly name?: string | undefined },
  { credentials, clock, signal }: HandshakeOptions,
  begin: (carrier: Carrier, outcome: Outcome) => void,
): Promise<TlsConnection> {
  const { promise, resolve, reject } = Promise.withResolvers<TlsConnection>();
  const carrier = new Carrier(connection);
  carrier.on("error", () => {}); // it keeps its failure, for whoever asks
  carrier.once("end", () => failed(endWords(carrier)));
  const timer = clock.schedule(HANDSHAKE_TIMEOUT_MS, () => {
    failed(`the handshake has not ended within ${HANDSHAKE_TIMEOUT_MS / 1000} s`);
  });
  const giveUp = () => failed(abortWords(signal!));
  signal?.addEventListener("abort", giveUp);
  let isSettled = false;
  function settle(): boolean {
    if (isSettled) return false;
    timer.cancel();
    signal?.removeEventListener("abort", giveUp);
    return isSettled = true;
  }
  function failed(words: string, cause?: unknown): void {
    if (!settle()) return;
    reject(new UnavailableError(words, { peer: connection.peer, cause }));
    carrier.destroy();
  }
  function secured(socket: TLSSocket): void {
    let wrong: string | undefined;
    try {
      wrong = wrongWithPeer(socket, credentials.authorities, name);
    } catch (error) {
      // Made to be unreadable, perhaps: this is no place to fall over what a stranger says.
      return failed("its certificate cannot be read", error);
    }
    if (wrong !== undefined) return failed(wrong);
    if (settle()) resolve(new TlsConnection({ connection, carrier, socket, isOnProbation: isClient }));
  }
  begin(carrier, { secured, failed });
  if (signal?.aborted) giveUp();
  return promise;
}

/** Words for a handshake that ended: by what broke the connection, if it did. */
function endWords({ failure }: Carrier, error?: unknown): string {
  if (failure !== undefined) return tlsWords(failure);
  if (error !== undefined && codeOf(error) !== "ECONNRESET") return tlsWords(error);
  return `it closed the connection during the handshake: it may speak no TLS (${BOTH_OR_NEITHER}), or refuse us`;
}
