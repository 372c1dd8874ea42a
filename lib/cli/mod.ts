/** The command line: arguments in, exit code out. */
export { run } from "./run.ts";
