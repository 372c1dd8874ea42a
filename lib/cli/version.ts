/** The version of this program, which `--version` prints; deno.json says the same, and a test holds them together. */
export const VERSION = "0.1.0";

/** How we call ourselves to other nodes. */
export const SOFTWARE = `zrs ${VERSION}`;
