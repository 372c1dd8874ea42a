/**
 * Sums up CPU profiles that processes of ours left (`--profile DIR`): the functions that take most time
 * themselves. `deno run --allow-read tests/bench/profile.ts DIR/*.cpuprofile`
 */

interface ProfileNode {
  readonly id: number;
  readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
}

/** A .cpuprofile as V8 writes it; times in microseconds. */
interface Profile {
  readonly nodes: readonly ProfileNode[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

const SHOWN = 25;

/** Microseconds spent in each function itself, by name and place. */
function selfTimes(profile: Profile): Map<string, number> {
  const names = new Map(profile.nodes.map((node) => [node.id, nameOf(node)]));
  const times = new Map<string, number>();
  profile.samples.forEach((id, index) => {
    const name = names.get(id)!;
    times.set(name, (times.get(name) ?? 0) + profile.timeDeltas[index]!);
  });
  return times;
}

function nameOf({ callFrame: { functionName, url, lineNumber } }: ProfileNode): string {
  const name = functionName || "(anonymous)";
  return url === "" ? name : `${name} ${url.replace(/^.*\/(?=lib\/|tests\/)/, "")}:${lineNumber + 1}`;
}

for (const path of Deno.args) {
  const times = selfTimes(JSON.parse(Deno.readTextFileSync(path)));
  const busy = [...times].filter(([name]) => name !== "(idle)").reduce((sum, [, time]) => sum + time, 0);
  const idle = times.get("(idle)") ?? 0;
  console.log(`${path}: busy ${(busy / 1e6).toFixed(2)} s, idle ${(idle / 1e6).toFixed(2)} s`);
  const top = [...times].filter(([name]) => name !== "(idle)").sort((a, b) => b[1] - a[1]).slice(0, SHOWN);
  for (const [name, time] of top) console.log(`${(100 * time / busy).toFixed(1).padStart(6)} %  ${name}`);
}
