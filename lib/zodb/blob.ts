/**
 * Recognising a blob's record: its first pickle, the class, is exactly `ZODB.blob.Blob`. The content lies in
 * a file beside the database (docs/filestorage_format.md, "Blobs").
 */

/** The class description is within so many bytes from the record's start, whatever the pickle's protocol. */
export const BLOB_SNIFF_BYTES = 64;

// GLOBAL in protocols 0 to 3; STACK_GLOBAL on two short texts in protocol 4, framed and memoized or not.
const GLOBAL_FORM = /^(?:\x80[\x00-\x05])?cZODB\.blob\nBlob\n(?:q.|p\d+\n|r....)?\./s;
const STACK_FORM =
  /^\x80[\x04\x05](?:\x95.{8})?\x8c\tZODB\.blob(?:\x94|q.)?\x8c\x04Blob(?:\x94|q.)?\x93(?:\x94|q.)?\./s;

/** Whether data with this beginning (at least {@link BLOB_SNIFF_BYTES} of it, or all) is a blob's record. */
export function isBlobRecord(bytes: Uint8Array, from: number, to: number): boolean {
  const first = bytes[from];
  // Nearly every record is told apart by its third or first byte, without a string being made.
  if (first === 0x80) {
    const third = bytes[from + 2];
    if (third !== 0x63 && third !== 0x95 && third !== 0x8c) return false;
    if (third === 0x63 && bytes[from + 3] !== 0x5a) return false;
  } else if (first !== 0x63) {
    return false;
  }
  let text = "";
  const end = Math.min(to, from + BLOB_SNIFF_BYTES);
  for (let i = from; i < end; i++) text += String.fromCharCode(bytes[i]!);
  return GLOBAL_FORM.test(text) || STACK_FORM.test(text);
}
