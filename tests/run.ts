/**
 * Runs all tests with the real Python peers beside them; this is `deno task test`.
 *
 * It makes the Python environments that the peers need, runs `deno test` with any further arguments, and ends
 * with one line `N passed, N failed, N skipped`. The exit code is 0 if nothing failed and something ran. Where
 * Python, a package or the network is missing, the tests with that peer are skipped, and it says so; with
 * CI=true in the environment that counts as a failure.
 */
import { fileURLToPath } from "node:url";
import { OPENSSL } from "./kit/certificates.ts";
import { type Environment, ENVIRONMENTS, prepare } from "./kit/environments.ts";
import { eachLine } from "./kit/lines.ts";
import { NO_SSHD } from "./kit/sshd.ts";
import { type Counts, formatCounts, Tally } from "./kit/tally.ts";

/** A run in which no test ends for so long hangs; in milliseconds. No test comes near it. */
const HANGING_MS = 300_000;

const PROJECT = fileURLToPath(new URL("../", import.meta.url));

/** Variables for the tests, and the environments that could not be made. */
async function prepareAll(): Promise<{ variables: Record<string, string>; missing: Environment[] }> {
  const variables: Record<string, string> = {};
  const missing: Environment[] = [];
  for (const environment of Object.values(ENVIRONMENTS)) {
    try {
      variables[environment.variable] = await prepare(environment, (line) => console.error(line));
    } catch (error) {
      console.error(`${error instanceof Error ? error.message : error}`);
      console.error(`Left out: all tests with ${environment.holds}`);
      missing.push(environment);
    }
  }
  return { variables, missing };
}

/** Runs `deno test`, passing its output on as it comes. */
async function runTests(args: readonly string[], variables: Record<string, string>): Promise<Counts> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["test", "--allow-all", "--parallel", "--preload=tests/property_seed.ts", ...args],
    cwd: PROJECT,
    env: Deno.stdout.isTerminal() && !Deno.noColor ? { ...variables, FORCE_COLOR: "1" } : variables,
    stdout: "piped",
  }).spawn();
  // An interrupt reaches the child as well; stay, to count what it got done.
  const stay = () => {};
  const forward = () => child.kill("SIGTERM");
  Deno.addSignalListener("SIGINT", stay);
  Deno.addSignalListener("SIGTERM", forward);

  // deno test itself only says again and again how long a test has been running, and waits for ever.
  const giveUp = () => {
    console.error(`No test has ended for ${HANGING_MS / 60_000} minutes: giving up`);
    child.kill("SIGKILL");
  };
  let watchdog = setTimeout(giveUp, HANGING_MS);

  const tally = new Tally();
  const [forPeople, forTally] = child.stdout.tee();
  const shown = forPeople.pipeTo(Deno.stdout.writable, { preventClose: true });
  await eachLine(forTally, (line) => {
    tally.line(line);
    if (line.includes("has been running for over")) return;
    clearTimeout(watchdog);
    watchdog = setTimeout(giveUp, HANGING_MS);
  });
  clearTimeout(watchdog);
  await shown;
  const status = await child.status;
  Deno.removeSignalListener("SIGINT", stay);
  Deno.removeSignalListener("SIGTERM", forward);
  if (status.signal !== null) console.error(`deno test was ended by ${status.signal}`);
  return tally.counts(status.success);
}

const args = Deno.args[0] === "--" ? Deno.args.slice(1) : Deno.args;
const { variables, missing } = await prepareAll();
const counts = await runTests(args, variables);
const mustBeComplete = Deno.env.get("CI") === "true";
const leftOut = missing.map(({ holds }) => `all tests with ${holds}`);
if (NO_SSHD !== undefined) leftOut.push(`all tests over ssh, for ${NO_SSHD}`);
if (!OPENSSL) leftOut.push("all tests of TLS, for there is no openssl command");
for (const what of leftOut) console.error(`Left out: ${what}`);
const failed = counts.failed + (mustBeComplete ? leftOut.length : 0);
console.log(formatCounts({ ...counts, failed }));
Deno.exitCode = failed === 0 && counts.passed > 0 ? 0 : 1;
