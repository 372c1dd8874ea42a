/** Text streams by lines. */

/** Calls back with each line of a UTF-8 stream, without its end; the last one also if it has none. */
export async function eachLine(
  stream: ReadableStream<Uint8Array>,
  callback: (line: string) => void,
): Promise<void> {
  // Pieces of a line that is still coming: joined once, for lines may be megabytes long.
  let pieces: string[] = [];
  const decode = new TransformStream<Uint8Array, string>(decoder());
  for await (const text of stream.pipeThrough(decode)) {
    const lines = text.split("\n");
    for (const line of lines.slice(0, -1)) {
      callback(pieces.join("") + line);
      pieces = [];
    }
    pieces.push(lines.at(-1) ?? "");
  }
  const rest = pieces.join("");
  if (rest !== "") callback(rest);
}

function decoder(): Transformer<Uint8Array, string> {
  const utf8 = new TextDecoder();
  return {
    transform: (chunk, controller) => controller.enqueue(utf8.decode(chunk, { stream: true })),
    flush: (controller) => controller.enqueue(utf8.decode()),
  };
}
