/** Why a handshake failed, in words about the other end: "it speaks no TLS". */

import { UnavailableError } from "../errors.ts";
import { codeOf, wordsOf } from "./failure.ts";
import { networkWords } from "./network_failure.ts";

const REFUSED = "it does not accept our certificate";

/** An alert of the other end, and also whatever the runtime has no other code for. */
const HANDSHAKE_FAILURE = "ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE";

/** What to do where one end speaks TLS and the other does not; the plain end says the same (bytes/framing.ts). */
export const BOTH_OR_NEITHER = "both ends must use TLS, or neither";

const WORDS: Readonly<Record<string, string>> = {
  ERR_SSL_WRONG_VERSION_NUMBER: `it speaks no TLS: ${BOTH_OR_NEITHER}`,
  // What it told us.
  ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED: "it demands a certificate",
  ERR_SSL_TLSV1_ALERT_UNKNOWN_CA: `${REFUSED}: it is of another authority`,
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED: `${REFUSED}: it has expired`,
  ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE: REFUSED,
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_UNKNOWN: REFUSED,
  ERR_SSL_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE: REFUSED,
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_REVOKED: REFUSED,
  [HANDSHAKE_FAILURE]: "it and we have nothing in common, or it demands a certificate",
  ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION: "it speaks neither TLS 1.2 nor 1.3",
};

/** @param error as the runtime's TLS, or the connection below it, gives it */
export function tlsWords(error: unknown): string {
  const code = codeOf(error);
  if (code === HANDSHAKE_FAILURE && !isRefusal(error)) {
    return `it speaks no TLS as we know it, 1.2 or 1.3: ${wordsOf(error)}`;
  }
  const words = WORDS[code];
  if (words !== undefined) return words;
  if (error instanceof UnavailableError) return error.cause ? networkWords(error.cause) : error.message;
  return networkWords(error);
}

/** Whether the other end has told us that it does not want us. */
export function isRefusal(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith("received fatal alert");
}
