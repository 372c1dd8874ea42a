/**
 * Property tests draw the same cases in every run of the test command, so that it says the same twice. Others are
 * drawn with PROPERTY_SEED=N, and different ones each time with PROPERTY_SEED=random; a failure prints its seed.
 */
import fc from "fast-check";

const seed = Deno.env.get("PROPERTY_SEED") ?? "1";
if (seed !== "random") fc.configureGlobal({ seed: Number(seed) });
