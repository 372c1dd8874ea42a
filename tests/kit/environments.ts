/**
 * The Python environments with the real peers: `.venvs/zrs` has the last ZODB that zc.zrs 3.1.0 works with,
 * `.venvs/zodb6` a present one. They are made once, from exact versions of every package.
 *
 * An environment counts as made when its stamp, written last, holds exactly the wanted versions; one that was
 * left half made, or made for other versions, is removed and made anew. Runs that start together wait for each
 * other.
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export interface Environment {
  /** Its directory within `.venvs`. */
  readonly name: string;
  /** What it holds, for people. */
  readonly holds: string;
  /** The variable that tells the tests where its interpreter is. */
  readonly variable: string;
  /** The file of requirements beside the peers. */
  readonly requirements: string;
}

export const ENVIRONMENTS = {
  zodb55: {
    name: "zrs",
    holds: "zc.zrs 3.1.0, ZODB 5.5.1, ZEO 5.4.1",
    variable: "ZRS_PYTHON_ZODB55",
    requirements: "requirements-zrs.txt",
  },
  zodb6: {
    name: "zodb6",
    holds: "ZODB 6.4, ZEO 6.2",
    variable: "ZRS_PYTHON_ZODB6",
    requirements: "requirements-zodb6.txt",
  },
} as const satisfies Record<string, Environment>;

/** The names of the environments, as tests ask for them. */
export type EnvironmentName = keyof typeof ENVIRONMENTS;

const ROOT = fileURLToPath(new URL("../../.venvs/", import.meta.url));
const PYTHON_PEERS = fileURLToPath(new URL("./python/", import.meta.url));

/** The versions of the build tools; pip gets them by a variable, as it builds in an environment of its own. */
const BUILD_CONSTRAINTS = join(PYTHON_PEERS, "build-constraints.txt");

/**
 * The interpreter that tests use: the one named by the environment's variable, else the one in `.venvs` if it
 * is complete; undefined when there is neither.
 */
export function findInterpreter(name: EnvironmentName): string | undefined {
  const environment = ENVIRONMENTS[name];
  return Deno.env.get(environment.variable) || (isMade(environment) ? interpreterOf(environment) : undefined);
}

/**
 * Makes the environment unless it is there.
 * @param report gets a line for each thing that takes time
 * @returns the path of its interpreter
 * @throws Error that says what is missing (Python, its venv module, a package, the network)
 */
export async function prepare(environment: Environment, report: (line: string) => void): Promise<string> {
  await Deno.mkdir(ROOT, { recursive: true });
  using lock = await Deno.open(join(ROOT, "lock"), { create: true, write: true });
  await lock.lock(true);
  const directory = join(ROOT, environment.name);
  const interpreter = interpreterOf(environment);
  if (isMade(environment) && await works(interpreter)) return interpreter;

  report(`Making .venvs/${environment.name} (${environment.holds})`);
  await removeIfThere(directory);
  await run("python3", ["-m", "venv", directory]);
  await run(
    interpreter,
    [
      "-m",
      "pip",
      "install",
      "--no-input",
      "--quiet",
      "--disable-pip-version-check",
      "--requirement",
      join(
        PYTHON_PEERS,
        environment.requirements,
      ),
    ],
    { PIP_CONSTRAINT: BUILD_CONSTRAINTS, PIP_BUILD_CONSTRAINT: BUILD_CONSTRAINTS },
  );
  if (!await works(interpreter)) throw new Error(`Cannot use ${interpreter}: it does not find ZODB`);
  Deno.writeTextFileSync(stampOf(environment), wantedStamp(environment));
  return interpreter;
}

function interpreterOf(environment: Environment): string {
  return join(ROOT, environment.name, "bin", "python");
}

function stampOf(environment: Environment): string {
  return join(ROOT, environment.name, "made-from.txt");
}

function wantedStamp(environment: Environment): string {
  return Deno.readTextFileSync(join(PYTHON_PEERS, environment.requirements)) +
    Deno.readTextFileSync(BUILD_CONSTRAINTS);
}

function isMade(environment: Environment): boolean {
  try {
    return Deno.readTextFileSync(stampOf(environment)) === wantedStamp(environment);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Whether the interpreter runs at all: an upgrade of the system may have taken away what it links to. */
async function works(interpreter: string): Promise<boolean> {
  try {
    await run(interpreter, ["-c", "import ZODB, ZEO"]);
    return true;
  } catch {
    return false;
  }
}

async function run(
  command: string,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<void> {
  const child = new Deno.Command(command, { args: [...args], env, stdin: "null" });
  const output = await child.output().catch((error: unknown) => {
    if (error instanceof Deno.errors.NotFound) throw new Error(`Cannot run ${command}: it is not installed`);
    throw error;
  });
  if (output.success) return;
  const decoder = new TextDecoder();
  const said = `${decoder.decode(output.stdout)}${decoder.decode(output.stderr)}`.trim();
  throw new Error(`Cannot run ${command} ${args.join(" ")}: exit code ${output.code}\n${said}`);
}

async function removeIfThere(directory: string): Promise<void> {
  try {
    await Deno.remove(directory, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
