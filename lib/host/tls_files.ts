/**
 * The certificate, key and authorities that a node encrypts with: three PEM files, read together and used only
 * when all that can be checked beforehand is right. What is wrong is named with its file and what to do.
 */

import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import fs from "node:fs";
import { UsageError } from "../errors.ts";
import { diskFailure, wordsOf } from "./failure.ts";
import { isSignedBy, isVersion3, untimelyWords } from "./tls_peer.ts";

export interface TlsFiles {
  /** Our certificate; further ones in the file, up to the authority's, are sent along. */
  readonly cert: string;
  readonly key: string;
  /** Certificates of the authorities whose signature on the other end's certificate counts. */
  readonly ca: string;
}

/** What one handshake uses, from one reading of the files. */
export interface Credentials {
  /** In PEM form, as are key and ca. */
  readonly cert: string;
  readonly key: string;
  readonly ca: string;
  readonly authorities: readonly X509Certificate[];
  /** What is not as it should be, but does not hinder. */
  readonly warnings: readonly string[];
}

const READABLE_BY_ALL = 0o004;
const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g;

/** @throws UsageError that names the file; NotFoundError, DiskError */
export function readCredentials(files: TlsFiles): Credentials {
  const [own, ...chain] = readCertificates(files.cert, "the certificate");
  const given = readCertificates(files.ca, "the authority");
  const key = readKey(files.key);
  for (const certificate of [own!, ...chain]) checkTimely(certificate, files.cert);
  checkOwn(own!, files.cert);
  checkAuthorities(given, files.ca);
  const authorities = given.filter((each) => untimelyWords(each) === undefined);
  if (!own!.checkPrivateKey(key.object)) {
    throw new UsageError(`Cannot use ${files.key} as the key: it does not belong to ${files.cert}`, {
      path: files.key,
      hint: "Give the key that the certificate was requested with",
    });
  }
  const warnings = given.filter((each) => !authorities.includes(each)).map((each) =>
    `An authority of ${files.ca}, ${nameOf(each)}, ${untimelyWords(each)}`
  );
  if (key.isPublic) warnings.push(`${files.key} can be read by everybody on this machine: chmod 600 it`);
  if (![own!, ...chain].some((certificate) => authorities.some((each) => isSignedBy(certificate, each)))) {
    warnings.push(
      `${files.cert} is not signed by an authority of ${files.ca}: who knows the same authorities refuses us`,
    );
  }
  return {
    cert: toPem([own!, ...chain]),
    key: key.pem,
    ca: toPem(authorities),
    authorities,
    warnings,
  };
}

function readCertificates(path: string, what: string): X509Certificate[] {
  const blocks = read(path, what).match(CERTIFICATE) ?? [];
  if (blocks.length === 0) {
    throw new UsageError(`Cannot use ${path} as ${what}: there is no certificate in it`, {
      path,
      hint: "Name a file in PEM form, which has a line -----BEGIN CERTIFICATE-----",
    });
  }
  return blocks.map((block) => {
    try {
      return new X509Certificate(block);
    } catch (cause) {
      throw new UsageError(`Cannot use ${path} as ${what}: a certificate in it is damaged`, {
        path,
        cause,
        hint: `Look at it with: openssl x509 -in ${path} -noout -text`,
      });
    }
  });
}

function readKey(path: string): { pem: string; object: KeyObject; isPublic: boolean } {
  const pem = read(path, "the key");
  const action = `Cannot use ${path} as the key`;
  if (!pem.includes("PRIVATE KEY-----")) {
    throw new UsageError(`${action}: there is no private key in it`, {
      path,
      hint: "Name a file in PEM form, which has a line -----BEGIN PRIVATE KEY-----",
    });
  }
  if (pem.includes("ENCRYPTED")) {
    throw new UsageError(`${action}: it is protected by a passphrase, and nobody is there to type it`, {
      path,
      hint: `Write it without one: openssl pkey -in ${path} -out NEW_FILE`,
    });
  }
  try {
    const isPublic = (fs.statSync(path).mode & READABLE_BY_ALL) !== 0;
    return { pem, object: createPrivateKey(pem), isPublic };
  } catch (cause) {
    throw new UsageError(`${action}: it is damaged, or of a kind that is not supported`, {
      path,
      cause,
      hint: `Look at it with: openssl pkey -in ${path} -noout -text`,
    });
  }
}

function read(path: string, what: string): string {
  try {
    return fs.readFileSync(path, "utf8");
  } catch (cause) {
    throw diskFailure(`Cannot read ${path}, ${what}`, path, cause);
  }
}

function checkTimely(certificate: X509Certificate, path: string): void {
  const untimely = untimelyWords(certificate);
  if (untimely === undefined) return;
  throw new UsageError(`Cannot use ${path} as the certificate: it ${untimely}`, {
    path,
    hint: "Have a new one signed, or set the clock right",
  });
}

/** The other end refuses a certificate without version 3, as we do: see tls_peer.ts. */
function checkOwn(certificate: X509Certificate, path: string): void {
  if (isVersion3(certificate)) return;
  throw new UsageError(`Cannot use ${path} as the certificate: it is of version 1, which names no hosts`, {
    path,
    hint: "Have it signed with a subjectAltName, as docs/connections.md shows",
  });
}

function checkAuthorities(authorities: readonly X509Certificate[], path: string): void {
  const action = `Cannot use ${path} as the authority`;
  const untimely = authorities.map(untimelyWords);
  if (untimely.every((words) => words !== undefined)) {
    throw new UsageError(`${action}: it ${untimely[0]}`, {
      path,
      hint: "Give the certificate of an authority that counts today, or set the clock right",
    });
  }
  for (const certificate of authorities) {
    const name = nameOf(certificate);
    if (!certificate.ca) {
      throw new UsageError(`${action}: ${name} is no authority's certificate`, {
        path,
        hint: "Give the certificate that signs the others, with basicConstraints CA:TRUE",
      });
    }
    try {
      certificate.verify(certificate.publicKey);
    } catch (cause) {
      throw new UsageError(`${action}: ${name} has a key that is not supported: ${wordsOf(cause)}`, {
        path,
        cause,
        hint: "Use an authority with a key of RSA, P-256, P-384 or Ed25519",
      });
    }
  }
}

function nameOf({ subject }: X509Certificate): string {
  return subject.replaceAll("\n", ", ");
}

function toPem(certificates: readonly X509Certificate[]): string {
  return certificates.map(String).join("");
}
