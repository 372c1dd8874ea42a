/** What is wrong with certificate, key or authority is said at once, with the file and what to do. */

import assert from "node:assert/strict";
import { UsageError } from "../../lib/errors.ts";
import type { TlsFiles } from "../../lib/host/mod.ts";
import { Authority, openssl } from "../kit/certificates.ts";
import { ask, type Certificates, Echo, secure, tlsTest } from "./tls_kit.ts";

interface BadFiles {
  readonly says: string;
  /** @returns what is given in place of the good files */
  readonly spoil: (made: Certificates, path: string) => Promise<Partial<TlsFiles>>;
  /** `@` stands for the file that was spoiled. */
  readonly message: RegExp;
  readonly hint: RegExp | undefined;
}

function write(path: string, text: string): Promise<void> {
  return Deno.writeTextFile(path, text);
}

const TABLE: readonly BadFiles[] = [
  {
    says: "a file is missing",
    spoil: (_, path) => Promise.resolve({ ca: path }),
    message: /^Cannot read @, the authority: there is no such file or directory$/,
    hint: undefined,
  },
  {
    says: "the key stands where the certificate should",
    spoil: (made) => Promise.resolve({ cert: made.server.key }),
    message: /^Cannot use .*server\.key as the certificate: there is no certificate in it$/,
    hint: /PEM/,
  },
  {
    says: "the certificate is damaged",
    spoil: async (_, path) => {
      await write(path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
      return { cert: path };
    },
    message: /^Cannot use @ as the certificate: a certificate in it is damaged$/,
    hint: /openssl x509 -in @ /,
  },
  {
    says: "the certificate stands where the key should",
    spoil: (made) => Promise.resolve({ key: made.server.cert }),
    message: /^Cannot use .*server\.crt as the key: there is no private key in it$/,
    hint: /PEM/,
  },
  {
    says: "the key is damaged",
    spoil: async (_, path) => {
      await write(path, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
      return { key: path };
    },
    message: /^Cannot use @ as the key: it is damaged/,
    hint: /openssl pkey -in @ /,
  },
  {
    says: "the key has a passphrase",
    spoil: async (made, path) => {
      await openssl(["pkey", "-in", made.server.key, "-aes256", "-passout", "pass:secret", "-out", path]);
      return { key: path };
    },
    message: /^Cannot use @ as the key: it is protected by a passphrase/,
    hint: /openssl pkey -in @ -out/,
  },
  {
    says: "the key is that of another certificate",
    spoil: (made) => Promise.resolve({ key: made.client.key }),
    message: /^Cannot use .*client\.key as the key: it does not belong to .*server\.crt$/,
    hint: /requested with/,
  },
  {
    says: "the certificate has expired",
    spoil: (made) => made.authority.sign("old", { isExpired: true }),
    message: /^Cannot use .*old\.crt as the certificate: it has expired on 2021-01-01T00:00:00\.000Z$/,
    hint: /new one/,
  },
  {
    says: "the certificate is of version 1",
    spoil: (made) => made.authority.signVersion1("plain"),
    message: /^Cannot use .*plain\.crt as the certificate: it is of version 1/,
    hint: /subjectAltName/,
  },
  {
    says: "the authority is none",
    spoil: (made) => Promise.resolve({ ca: made.client.cert }),
    message: /^Cannot use .*client\.crt as the authority: CN=client is no authority's certificate$/,
    hint: /CA:TRUE/,
  },
  {
    says: "the key is of a kind that TLS here does not know",
    spoil: async (made, path) => {
      const [key, cert] = [`${path}.key`, `${path}.crt`];
      const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1", "-nodes"];
      await openssl(["req", "-x509", ...kind, "-keyout", key, "-out", cert, "-subj", "/CN=odd"]);
      return { key, cert, ca: made.authority.ca };
    },
    message: /^Cannot use @\.crt with @\.key: unsupported protocol$/,
    hint: /P-256/,
  },
];

for (const { says, spoil, message, hint } of TABLE) {
  tlsTest(`it is said when ${says}`, async (made) => {
    const path = made.directory.join("spoiled");
    const files = { ...made.server, ...await spoil(made, path) };
    await assert.rejects(secure(files), (error: unknown) => {
      assert.ok(error instanceof UsageError, `${error}`);
      assert.match(error.message.replaceAll(path, "@"), message);
      if (hint !== undefined) assert.match(error.hint!.replaceAll(path, "@"), hint);
      return true;
    });
  });
}

tlsTest("a key that all can read, and a certificate that our peers refuse, are warned of", async (made) => {
  const { network } = await secure(made.server);
  assert.deepEqual(network.warnings, []);
  await Deno.chmod(made.server.key, 0o644);
  const other = await Authority.make(made.directory.path, "other");
  const { warnings } = (await secure({ ...made.server, ca: other.ca })).network;
  assert.equal(warnings.length, 2);
  assert.match(warnings[0]!, /server\.key can be read by everybody .*chmod 600/);
  assert.match(warnings[1]!, /server\.crt is not signed by an authority of .*other\.crt/);
});

tlsTest(
  "an authority whose time is over is left out beside one that counts, and is no good alone",
  async (made) => {
    const expired = await made.authority.sign("expired", { isAuthority: true, isExpired: true });
    await assert.rejects(secure({ ...made.server, ca: expired.cert }), {
      name: "UsageError",
      message: `Cannot use ${expired.cert} as the authority: it has expired on 2021-01-01T00:00:00.000Z`,
    });
    const ca = made.directory.join("both.crt");
    await write(ca, (await Deno.readTextFile(expired.cert)) + await Deno.readTextFile(made.authority.ca));
    await using echo = await Echo.start({ ...made.server, ca });
    assert.deepEqual(echo.network.warnings, [
      `An authority of ${ca}, CN=expired, has expired on 2021-01-01T00:00:00.000Z`,
    ]);
    assert.equal(await ask((await secure(made.client)).network, echo.address), "hello");
  },
);

tlsTest("keys of RSA and Ed25519 do as well", async (made) => {
  for (const kind of [["rsa:2048"], ["ed25519"]]) {
    const [key, cert] = [made.directory.join("own.key"), made.directory.join("own.crt")];
    const names = ["-subj", "/CN=own", "-addext", "subjectAltName=DNS:localhost"];
    await openssl(["req", "-x509", "-newkey", ...kind, "-nodes", "-keyout", key, "-out", cert, ...names]);
    const { network } = await secure({ cert, key, ca: cert });
    assert.deepEqual(network.warnings, []);
  }
});

tlsTest("the documented commands make certificates with which two machines talk", async ({ directory }) => {
  const document = await Deno.readTextFile(new URL("../../docs/connections.md", import.meta.url));
  const section = document.split("\n## Encryption\n")[1]!.split("\n## ")[0]!;
  const commands = section.match(/^ {4}(?:openssl|echo) (?:.*\\\n)*.*/gm)!.join("\n");
  for (const machine of ["db1", "db2"]) {
    // The authority is made once.
    const own = (machine === "db1" ? commands : commands.slice(commands.indexOf("openssl req -newkey")))
      .replaceAll("db1", machine)
      .replaceAll("10.0.0.1", "127.0.0.1");
    const made = await new Deno.Command("sh", { args: ["-ec", own], cwd: directory.path }).output();
    assert.ok(made.success, new TextDecoder().decode(made.stderr));
  }
  const files = (name: string) => ({
    cert: directory.join(`${name}.crt`),
    key: directory.join(`${name}.key`),
    ca: directory.join("ca.crt"),
  });
  await using echo = await Echo.start(files("db1"));
  assert.deepEqual(echo.network.warnings, []);
  assert.equal(await ask((await secure(files("db2"))).network, echo.address), "hello");
  const named = await secure(files("db2"), { name: "db1.example.com" });
  assert.equal(await ask(named.network, echo.address), "hello");
});
