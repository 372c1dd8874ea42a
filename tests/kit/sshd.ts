/**
 * A real OpenSSH server on loopback, started by the test as the user who runs it, with keys, port and files of its
 * own: nothing of the machine's configuration is used or touched.
 */
import { beforeDeadline } from "./feed.ts";
import { ChildProcess, freePort } from "./process.ts";
import { TempDirectory } from "./temp.ts";

const SSHD = "/usr/sbin/sshd";
/** Without it sshd refuses to serve when root starts it; Debian makes it when the service starts. */
const SEPARATION_DIRECTORY = "/run/sshd";

/** Why there can be no server; undefined where there can be one. */
export const NO_SSHD = whatIsMissing();

/** A test that needs a server: it is registered as ignored where there can be none. */
export function sshTest(name: string, body: () => Promise<void>, options: { ignore?: boolean } = {}): void {
  Deno.test({
    name: NO_SSHD === undefined ? name : `${name} (skipped: ${NO_SSHD})`,
    ignore: NO_SSHD !== undefined || options.ignore === true,
    fn: body,
  });
}

export interface SshdOptions {
  /** Where commands are found there. */
  readonly path?: string;
  /** A command that takes the place of what was asked for, which is in $SSH_ORIGINAL_COMMAND. */
  readonly forceCommand?: string;
  /** Whether it lets people log in with a password. */
  readonly passwords?: boolean;
  /** What ssh shows before the login. */
  readonly banner?: string;
}

export class Sshd implements AsyncDisposable {
  readonly port: number;
  /** As `--ssh` takes it: knows the server's key, and has a key that it accepts. */
  readonly ssh: string;
  readonly #directory: TempDirectory;
  readonly #server: ChildProcess;

  private constructor(directory: TempDirectory, port: number, server: ChildProcess) {
    this.#directory = directory;
    this.port = port;
    this.#server = server;
    this.ssh = this.sshWith({});
  }

  static async start(options: SshdOptions = {}): Promise<Sshd> {
    const directory = await TempDirectory.make();
    try {
      for (const name of ["host", "user", "other"]) {
        const args = ["-q", "-t", "ed25519", "-N", "", "-f", directory.join(name)];
        if (!new Deno.Command("ssh-keygen", { args }).outputSync().success) {
          throw new Error("ssh-keygen fails");
        }
      }
      const port = freePort();
      const hostKey = Deno.readTextFileSync(directory.join("host.pub"));
      Deno.writeTextFileSync(directory.join("known"), `* ${hostKey}`);
      Deno.writeTextFileSync(directory.join("none"), "");
      if (options.banner !== undefined) Deno.writeTextFileSync(directory.join("banner"), options.banner);
      const config = [
        `Port ${port}`,
        "ListenAddress 127.0.0.1",
        `HostKey ${directory.join("host")}`,
        `AuthorizedKeysFile ${directory.join("user.pub")}`,
        "PidFile none",
        "StrictModes no",
        "UsePAM no",
        `PasswordAuthentication ${options.passwords === true ? "yes" : "no"}`,
        "KbdInteractiveAuthentication no",
        "PermitRootLogin yes",
        `SetEnv PATH=${options.path ?? "/usr/bin:/bin"}`,
        ...(options.banner === undefined ? [] : [`Banner ${directory.join("banner")}`]),
        ...(options.forceCommand === undefined ? [] : [`ForceCommand ${options.forceCommand}`]),
      ];
      Deno.writeTextFileSync(directory.join("config"), config.join("\n") + "\n");
      const server = ChildProcess.start(SSHD, ["-D", "-e", "-f", directory.join("config")]);
      await beforeDeadline(
        "sshd",
        Promise.race([
          server.stderr.waitFor("listening", (line) => /listening on/.test(line)),
          server.endedEarly(),
        ]),
      );
      return new Sshd(directory, port, server);
    } catch (error) {
      await directory[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Where a path is, as a source is written. */
  at(path: string): string {
    return `127.0.0.1:${path}`;
  }

  /** The command with another key than the server accepts, or without knowing the server's. */
  sshWith({ key = "user", known = "known" }: { key?: "user" | "other"; known?: "known" | "none" }): string {
    const config = ["IdentitiesOnly=yes", `UserKnownHostsFile=${this.#directory.join(known)}`];
    const options = config.map((each) => `-o ${each}`).join(" ");
    return `ssh -F none -p ${this.port} -i ${this.#directory.join(key)} ${options}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server[Symbol.asyncDispose]();
    await this.#directory[Symbol.asyncDispose]();
  }
}

function whatIsMissing(): string | undefined {
  for (const [program, path] of [["sshd", SSHD], ["ssh", undefined], ["ssh-keygen", undefined]] as const) {
    if (path === undefined ? !isOnPath(program) : !exists(path)) return `there is no ${program}`;
  }
  if (Deno.uid() === 0 && !exists(SEPARATION_DIRECTORY)) {
    return `there is no directory ${SEPARATION_DIRECTORY}`;
  }
  return undefined;
}

function isOnPath(program: string): boolean {
  return (Deno.env.get("PATH") ?? "").split(":").some((directory) => exists(`${directory}/${program}`));
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}
