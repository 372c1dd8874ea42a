/** Sizes, times and what others have said, as people read them. */

const SIZE_UNITS = ["KiB", "MiB", "GiB", "TiB", "PiB"] as const;

/** `1 byte`, `512 bytes`, `1.5 GiB`. */
export function formatBytes(bytes: number): string {
  if (bytes < 1024) return bytes === 1 ? "1 byte" : `${bytes} bytes`;
  let value = bytes / 1024;
  let unit = 0;
  for (; value >= 1023.95 && unit < SIZE_UNITS.length - 1; unit++) value /= 1024;
  return `${value.toFixed(1)} ${SIZE_UNITS[unit]}`;
}

const TIME_UNITS = [["d", 86_400], ["h", 3600], ["min", 60]] as const;

/** `0 s`, `0.4 s`, `12 s`, `3 min 5 s`, `4 h 5 min`, `3 d 4 h`. */
export function formatDuration(seconds: number): string {
  if (seconds < 59.5) {
    return seconds === 0 || seconds >= 9.95
      ? `${Math.round(seconds)} s`
      : `${Math.max(0.1, Number(seconds.toFixed(1)))} s`;
  }
  const whole = Math.round(seconds);
  const [unit, size] = TIME_UNITS.find(([, size]) => whole >= size)!;
  const [nextUnit, nextSize] = TIME_UNITS[TIME_UNITS.findIndex(([name]) => name === unit) + 1] ?? ["s", 1];
  const rest = Math.floor(whole % size / nextSize);
  return `${Math.floor(whole / size)} ${unit}${rest === 0 ? "" : ` ${rest} ${nextUnit}`}`;
}

/** Words of a path or a peer can neither start a line of their own nor talk to the terminal. */
export function oneLine(text: string): string {
  return text.replace(
    /\p{Cc}/gu,
    (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
}
