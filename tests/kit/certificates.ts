/** Certificates for tests, made by the `openssl` command: authorities, and what they sign. */
import { join } from "node:path";

export const OPENSSL = findOpenssl();

/** To be said in a test's name where it is left out. */
export const WITHOUT_OPENSSL = OPENSSL ? "" : " (skipped: there is no openssl command)";

export interface CertificateOptions {
  /** The hosts it names; "localhost" and 127.0.0.1 unless told otherwise. */
  readonly names?: string;
  readonly isExpired?: boolean;
  /** The only use that it is for, as in "serverAuth". */
  readonly use?: string;
  /** It may sign others in turn. */
  readonly isAuthority?: boolean;
}

/** The files of a certificate and its key. */
export interface Certificate {
  readonly cert: string;
  readonly key: string;
}

const NAMES = "DNS:localhost,IP:127.0.0.1,IP:::1";
const NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/** Signs certificates; its files lie in the directory it was made in. */
export class Authority {
  /** The path of its own certificate. */
  readonly ca: string;
  readonly #directory: string;
  readonly #key: string;
  readonly #config: string;

  private constructor(directory: string, ca: string, key: string) {
    this.#directory = directory;
    this.ca = ca;
    this.#key = key;
    this.#config = `${ca}.conf`;
  }

  /** @param subject its name in its certificate: an impostor may use that of another */
  static async make(directory: string, name: string, subject = name): Promise<Authority> {
    const [ca, key] = [join(directory, `${name}.crt`), join(directory, `${name}.key`)];
    const own = ["-keyout", key, "-out", ca, "-days", "30", "-subj", `/CN=${subject}`];
    await openssl(["req", "-x509", ...NEW_KEY, ...own]);
    return await Authority.of(directory, { cert: ca, key });
  }

  /** One whose certificate was signed as that of an authority. */
  static async of(directory: string, { cert, key }: Certificate): Promise<Authority> {
    const made = new Authority(directory, cert, key);
    await Deno.mkdir(`${cert}.d`);
    await Deno.writeTextFile(`${cert}.index`, "");
    await Deno.writeTextFile(
      made.#config,
      [
        "[ca]\ndefault_ca = own\n[own]\npolicy = any\ncopy_extensions = copy\nunique_subject = no",
        `database = ${cert}.index\nnew_certs_dir = ${cert}.d`,
        "rand_serial = yes\ndefault_md = sha256\n[any]\ncommonName = supplied",
        "[authority]\nbasicConstraints = critical,CA:TRUE\n",
      ].join("\n"),
    );
    return made;
  }

  /** @param name of the files */
  async sign(name: string, options: CertificateOptions = {}): Promise<Certificate> {
    const { cert, key, request } = await this.#request(name, options.names ?? NAMES, options.use);
    const dates = options.isExpired
      ? ["-startdate", "20200101000000Z", "-enddate", "20210101000000Z"]
      : ["-days", "30"];
    const own = ["-config", this.#config, "-cert", this.ca, "-keyfile", this.#key];
    if (options.isAuthority) own.push("-extensions", "authority");
    await openssl(["ca", "-batch", "-notext", ...own, "-in", request, "-out", cert, ...dates]);
    return { cert, key };
  }

  /** As a certificate was before there were names in it, which openssl makes when it is told of no extension. */
  async signVersion1(name: string): Promise<Certificate> {
    const { cert, key, request } = await this.#request(name, undefined);
    const own = ["-CA", this.ca, "-CAkey", this.#key, "-CAcreateserial", "-days", "30"];
    await openssl(["x509", "-req", "-in", request, ...own, "-out", cert]);
    const text = await openssl(["x509", "-in", cert, "-noout", "-text"]);
    if (!text.includes("Version: 1 ")) throw new Error(`Cannot make a certificate of version 1:\n${text}`);
    return { cert, key };
  }

  async #request(
    name: string,
    names: string | undefined,
    use?: string,
  ): Promise<Certificate & { request: string }> {
    const file = (suffix: string) => join(this.#directory, `${name}.${suffix}`);
    const made = { cert: file("crt"), key: file("key"), request: file("csr") };
    const extension = names === undefined ? [] : ["-addext", `subjectAltName=${names}`];
    if (use !== undefined) extension.push("-addext", `extendedKeyUsage=${use}`);
    const out = ["-keyout", made.key, "-out", made.request, "-subj", `/CN=${name}`];
    await openssl(["req", ...NEW_KEY, ...out, ...extension]);
    return made;
  }
}

/** Runs openssl. @returns what it printed @throws Error with what it complained about */
export async function openssl(args: readonly string[]): Promise<string> {
  const output = await new Deno.Command("openssl", { args: [...args], stdin: "null" }).output();
  const [out, err] = [output.stdout, output.stderr].map((bytes) => new TextDecoder().decode(bytes));
  if (!output.success) throw new Error(`Cannot run openssl ${args.join(" ")}:\n${err}`);
  return out!;
}

function findOpenssl(): boolean {
  try {
    return new Deno.Command("openssl", { args: ["version"] }).outputSync().success;
  } catch {
    return false;
  }
}
