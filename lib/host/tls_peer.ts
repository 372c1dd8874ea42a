/**
 * Whether the certificate at the other end is one that we want: signed by our authority, valid now, and for the
 * name that we look for.
 *
 * The runtime's own verdict (Deno 2.9) is asked too, and is not enough. A server's certificate of version 1 it
 * takes by the mere name of its issuer, without looking at a signature, so anybody could make one; it resumes
 * a client's session without asking whether the authority of that time is still one of ours; and it does not
 * tell an expired certificate from a stranger's.
 */

import { X509Certificate } from "node:crypto";
import { checkServerIdentity, type DetailedPeerCertificate, type TLSSocket } from "node:tls";

/** Longer chains are nobody's. */
const MAX_CHAIN = 8;

/**
 * Who is at the other end of a socket whose handshake is through?
 * @param name what the certificate must be for: a host's name or address; undefined: anything
 * @returns why it is none of ours, in words that follow the peer's address; undefined when it is
 */
export function wrongWithPeer(
  socket: TLSSocket,
  authorities: readonly X509Certificate[],
  name: string | undefined,
): string | undefined {
  const chain = chainOf(socket);
  const [leaf] = chain;
  if (leaf === undefined) return "it presented no certificate";
  if (!isVersion3(leaf)) return "its certificate is of version 1, which proves nothing";
  const untimely = untimelyWords(leaf);
  if (untimely !== undefined) return `its certificate ${untimely}`;
  if (!leadsTo(chain, authorities)) return "its certificate is not signed by our authority";
  // It knows more rules than we do: what a certificate may be used for, how long a chain may be.
  if (!socket.authorized) return `its certificate is not for this use (${socket.authorizationError})`;
  // X509Certificate.checkHost knows no wildcards, and takes the subject for a host.
  if (name === undefined || !checkServerIdentity(name, socket.getPeerCertificate())) return undefined;
  return `its certificate is for ${leaf.subjectAltName ?? "no host"}, not for ${name}`;
}

/** Why a certificate does not count now; undefined when it does. */
export function untimelyWords({ validFromDate, validToDate }: X509Certificate): string | undefined {
  const now = Date.now();
  if (now > validToDate.getTime()) return `has expired on ${validToDate.toISOString()}`;
  if (now >= validFromDate.getTime()) return undefined;
  return `is not valid before ${validFromDate.toISOString()}, and this machine's clock is not there yet`;
}

/** @param chain a certificate, whose it was signed by, and so on: as far as the other end has sent it */
function leadsTo(chain: readonly X509Certificate[], authorities: readonly X509Certificate[]): boolean {
  for (const [index, certificate] of chain.entries()) {
    if (index > 0 && !isIntermediate(certificate)) return false;
    if (authorities.some((authority) => isSignedBy(certificate, authority))) return true;
    const next = chain[index + 1];
    if (next === undefined || !isSignedBy(certificate, next)) return false;
  }
  return false;
}

function isIntermediate(certificate: X509Certificate): boolean {
  return isVersion3(certificate) && certificate.ca && untimelyWords(certificate) === undefined;
}

/** Whether the holder of the authority's key has signed exactly this certificate. */
export function isSignedBy(certificate: X509Certificate, authority: X509Certificate): boolean {
  try {
    return certificate.checkIssued(authority) && certificate.verify(authority.publicKey);
  } catch {
    return false; // a kind of key or signature that is not supported
  }
}

/** Certificate ::= SEQUENCE { SEQUENCE { [0] { INTEGER version } … */
export function isVersion3(certificate: X509Certificate): boolean {
  const { raw } = certificate;
  const outer = contentOf(raw, 0);
  const at = outer === undefined ? undefined : contentOf(raw, outer);
  if (at === undefined) return false;
  return [0xa0, 0x03, 0x02, 0x01, 0x02].every((byte, index) => raw[at + index] === byte);
}

/** The offset of a SEQUENCE's content, behind its tag and length. */
function contentOf(bytes: Uint8Array, at: number): number | undefined {
  const [tag, length] = bytes.subarray(at, at + 2);
  if (tag !== 0x30 || length === undefined) return undefined;
  return at + 2 + (length < 0x80 ? 0 : length & 0x7f);
}

/** What the peer has sent: its own certificate, then whose it was signed by. */
function chainOf(socket: TLSSocket): X509Certificate[] {
  const chain: X509Certificate[] = [];
  let next: DetailedPeerCertificate | undefined = socket.getPeerCertificate(true);
  for (; next?.raw !== undefined && chain.length < MAX_CHAIN; next = next.issuerCertificate) {
    chain.push(new X509Certificate(next.raw));
    if (next.issuerCertificate === next) break; // the root names itself
  }
  return chain;
}
