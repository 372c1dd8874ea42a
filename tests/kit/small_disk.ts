/** A file system of a few KB, for tests of full and read-only ones. Mounting takes root, and more rights than many containers give it. */

/** Whether one can be made here. */
export const CAN_MOUNT = await canMount();

/** Mounts one of `kilobytes` at `directory/small` for the time of `use`, which gets that path. */
export async function withSmallDisk(
  directory: string,
  kilobytes: number,
  use: (small: string) => void | Promise<void>,
): Promise<void> {
  const small = `${directory}/small`;
  Deno.mkdirSync(small);
  run("mount", ["-t", "tmpfs", "-o", `size=${kilobytes}k`, "none", small]);
  try {
    await use(small);
  } finally {
    run("umount", [small]);
  }
}

/** Mounts it anew so that nothing can be written. */
export function makeReadOnly(small: string): void {
  run("mount", ["-o", "remount,ro", small]);
}

async function canMount(): Promise<boolean> {
  if (Deno.uid() !== 0) return false;
  const directory = Deno.makeTempDirSync();
  try {
    await withSmallDisk(directory, 64, () => {});
    return true;
  } catch {
    return false;
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

function run(command: string, args: string[]): void {
  const { success, stderr } = new Deno.Command(command, { args }).outputSync();
  if (!success) throw new Error(`${command}: ${new TextDecoder().decode(stderr)}`);
}
