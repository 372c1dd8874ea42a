/** The zrs program. */

import { run } from "./lib/cli/mod.ts";
import { systemHost } from "./lib/host/mod.ts";

Deno.exitCode = await run(Deno.args, systemHost());
