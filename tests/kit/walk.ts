/** The paths of all files below a directory, relative to it, sorted. */
export async function walk(directory: string): Promise<string[]> {
  const found: string[] = [];
  for (const waiting = [""]; waiting.length > 0;) {
    const below = waiting.pop()!;
    for await (const { name, isDirectory } of Deno.readDir(`${directory}/${below}`)) {
      if (isDirectory) waiting.push(`${below}${name}/`);
      else found.push(`${below}${name}`);
    }
  }
  return found.sort();
}
