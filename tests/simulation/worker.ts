/** One core's share of a campaign: gets seeds, answers with what happened in their worlds. */
import { runSeeds, type Tally } from "./campaign.ts";
import type { Job } from "./main.ts";

/** What is global in a worker, and not in a main program, for which this project's types are. */
interface WorkerScope {
  onmessage: ((event: MessageEvent<Job>) => Promise<void>) | null;
  postMessage(answer: Tally): void;
}

const scope = globalThis as unknown as WorkerScope;

scope.onmessage = async ({ data }) => {
  scope.postMessage(await runSeeds(data.seeds));
};
