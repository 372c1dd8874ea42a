/** What the tests of TLS share: authorities and certificates, made once, and pairs of connected ends. */

import { systemHost, type TlsFiles } from "../../lib/host/mod.ts";
import { TlsNetwork } from "../../lib/host/tls_network.ts";
import {
  type Address,
  type Clock,
  type Connection,
  formatAddress,
  type Network,
} from "../../lib/ports/mod.ts";
import { Authority, OPENSSL, WITHOUT_OPENSSL } from "../kit/certificates.ts";
import { beforeDeadline, Feed } from "../kit/feed.ts";
import { TempDirectory } from "../kit/temp.ts";

export const LOOPBACK = { transport: "tcp", host: "127.0.0.1", port: 0 } as const;

const { network: plain, clock: systemClock } = systemHost();

export interface Refusal {
  readonly peer: string;
  readonly reason: string;
}

/** Everything one test needs, in a directory of its own. */
export class Certificates implements AsyncDisposable {
  readonly directory: TempDirectory;
  readonly authority: Authority;
  /** What a server and a client show each other. */
  readonly server: TlsFiles;
  readonly client: TlsFiles;

  private constructor(directory: TempDirectory, authority: Authority, server: TlsFiles, client: TlsFiles) {
    this.directory = directory;
    this.authority = authority;
    this.server = server;
    this.client = client;
  }

  static async make(): Promise<Certificates> {
    const directory = await TempDirectory.make();
    const authority = await Authority.make(directory.path, "authority");
    const { ca } = authority;
    const server = { ...await authority.sign("server"), ca };
    return new Certificates(directory, authority, server, { ...await authority.sign("client"), ca });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.directory[Symbol.asyncDispose]();
  }
}

/** A test that makes certificates; left out, by name, where there is no openssl. */
export function tlsTest(name: string, test: (made: Certificates) => Promise<void>): void {
  Deno.test(`${name}${WITHOUT_OPENSSL}`, { ignore: !OPENSSL }, async () => {
    await using made = await Certificates.make();
    await test(made);
  });
}

export interface SecureOptions {
  readonly name?: string;
  readonly network?: Network;
  readonly clock?: Clock;
}

/** A network that uses the files, and what it refused. */
export async function secure(
  files: TlsFiles,
  { name, network = plain, clock = systemClock }: SecureOptions = {},
): Promise<{ network: TlsNetwork; refusals: Feed<Refusal> }> {
  const refusals = new Feed<Refusal>();
  const onRefused = (peer: string, reason: string) => refusals.push({ peer, reason });
  const options = { ...files, onRefused, ...(name !== undefined && { name }) };
  return { network: await TlsNetwork.open(network, clock, options), refusals };
}

/** Listens with the files and sends back whatever comes; `await using` ends it. */
export class Echo implements AsyncDisposable {
  readonly refusals: Feed<Refusal>;
  readonly network: TlsNetwork;
  readonly address: Address;
  readonly #end: () => Promise<void>;

  private constructor(
    network: TlsNetwork,
    refusals: Feed<Refusal>,
    address: Address,
    end: () => Promise<void>,
  ) {
    this.network = network;
    this.refusals = refusals;
    this.address = address;
    this.#end = end;
  }

  static async start(files: TlsFiles, options: SecureOptions & { at?: Address } = {}): Promise<Echo> {
    const { network, refusals } = await secure(files, options);
    const listener = await network.listen(options.at ?? LOOPBACK);
    const served = serve(() => listener.accept());
    return new Echo(network, refusals, listener.address, async () => {
      listener.close();
      await served;
    });
  }

  /** Its port as text; of a TCP listener. */
  get port(): string {
    return formatAddress(this.address).split(":").at(-1)!;
  }

  async refusal(from = 0): Promise<string> {
    return (await this.refusals.waitFor("a refusal", () => true, { from })).reason;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#end();
  }
}

async function serve(accept: () => Promise<Connection | null>): Promise<void> {
  const open: Promise<void>[] = [];
  for (let next; (next = await accept()) !== null;) open.push(echo(next));
  await Promise.all(open);
}

async function echo(connection: Connection): Promise<void> {
  using _connection = connection;
  const into = new Uint8Array(1024);
  try {
    for (let count; (count = await connection.read(into)) !== null;) {
      await connection.write(into.subarray(0, count));
    }
  } catch {
    // The other end has broken it, as some tests do.
  }
}

/** Says something over a new connection. @returns what came back @throws what went wrong */
export async function ask(network: Network, address: Address, text = "hello"): Promise<string> {
  using connection = await beforeDeadline("a connection", network.connect(address));
  await connection.write(new TextEncoder().encode(text));
  const into = new Uint8Array(1024);
  const count = await beforeDeadline("an answer", connection.read(into));
  return new TextDecoder().decode(into.subarray(0, count ?? 0));
}
