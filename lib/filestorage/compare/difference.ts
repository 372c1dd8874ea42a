/**
 * How two histories of one database can differ where one should be a copy of the other: what is found, where, and
 * in words. "Here" is the copy, "there" is what it should be a copy of.
 */
import { describeTid, formatOidDigits, NO_TID } from "../../zodb/mod.ts";

export type Side = "here" | "there";

/** A record at one of the two ends. */
export interface RecordSpot {
  /** Its position in the file; undefined where the end does not tell. */
  readonly position: number | undefined;
  /** The length of its data in bytes, back pointers followed; undefined where the object does not exist any more. */
  readonly length: number | undefined;
}

/** Which transaction, and where it lies. */
export interface Whereabouts {
  readonly tid: bigint;
  /** As the end has them that has the transaction: UTF-8 by custom. */
  readonly user: Uint8Array;
  readonly description: Uint8Array;
  /**
   * Positions of the transaction in the two files, or of what stands where it should be; undefined where an end
   * does not tell.
   */
  readonly here: number | undefined;
  readonly there: number | undefined;
}

export type MetadataField = "user" | "description" | "extension";

/** What differs between two records that should be the same, or where one has no counterpart. */
export type RecordDifference =
  /** Two different objects in the same place, or a record that only one end has. */
  | {
    readonly kind: "record";
    readonly oidHere: bigint | undefined;
    readonly oidThere: bigint | undefined;
    readonly recordHere: RecordSpot | undefined;
    readonly recordThere: RecordSpot | undefined;
  }
  /** The same object, with other data. */
  | {
    readonly kind: "data";
    readonly oid: bigint;
    readonly recordHere: RecordSpot;
    readonly recordThere: RecordSpot;
    /** The first byte of the data that differs; undefined where that is not known. */
    readonly offset: number | undefined;
  }
  /** The same object with the same data, and another tid in the record's header: one is not its transaction's. */
  | {
    readonly kind: "record-tid";
    readonly oid: bigint;
    readonly recordHere: RecordSpot;
    readonly recordThere: RecordSpot;
    readonly recordTidHere: bigint;
    readonly recordTidThere: bigint;
  };

export type Difference =
  & Whereabouts
  & (
    /** The copy lacks it, and no pack explains that. */
    | { readonly kind: "missing" }
    /** Only the copy has it, and no pack explains that. */
    | { readonly kind: "extra" }
    /** The copy has it, and whatever follows, behind the other end's last transaction. */
    | { readonly kind: "ahead"; readonly lastTid: bigint; readonly lastTidThere: bigint }
    | { readonly kind: "metadata"; readonly fields: readonly MetadataField[] }
    /** Byte by byte, where that was wanted. */
    | {
      readonly kind: "bytes";
      /** The same in both files. */
      readonly position: number;
      /** Undefined where the file has ended. */
      readonly byteHere: number | undefined;
      readonly byteThere: number | undefined;
    }
    /** One of the two cannot be read there; nothing behind it was compared where that is `final`. */
    | {
      readonly kind: "damaged";
      readonly side: Side;
      readonly problem: string;
      readonly final: boolean;
    }
    /** The content of a blob, as the other end has it. */
    | {
      readonly kind: "blob";
      readonly oid: bigint;
      /** Its length in bytes, or why the copy has none. */
      readonly blobHere: number | "missing" | "unreadable";
      readonly blobThere: number;
      /** The copy's list of missing blobs has it. */
      readonly marked: boolean;
    }
    | RecordDifference
  );

/** How the two ends are called in words. */
export type Names = Readonly<Record<Side, string>>;

/**
 * One line: what differs, in which transaction, and where it lies at both ends.
 * @param words of that transaction, as they follow its tid
 */
export function describeDifference(difference: Difference, names: Names, words = ""): string {
  const { tid, here, there } = difference;
  const what = whatDiffers(difference, names);
  const places = [placeOf("here", here, names), placeOf("there", there, names)].filter((each) => each !== "");
  return `transaction ${[describeTid(tid) + words, ...places].join(", ")}: ${what}`;
}

function placeOf(side: Side, position: number | undefined, names: Names): string {
  return position === undefined ? "" : `at ${position} in ${names[side]}`;
}

function whatDiffers(difference: Difference, names: Names): string {
  switch (difference.kind) {
    case "missing":
      return `${names.here} lacks it`;
    case "extra":
      return `${names.there} lacks it, and has later ones`;
    case "ahead": {
      const { tid, lastTid, lastTidThere } = difference;
      const until = lastTid === tid ? "" : ` and what follows, up to ${describeTid(lastTid)}`;
      const end = lastTidThere === NO_TID ? "is empty" : `ends with ${describeTid(lastTidThere)}`;
      return `only ${names.here} has it${until}; ${names.there} ${end}`;
    }
    case "metadata":
      return `the ${difference.fields.join(" and ")} ${
        difference.fields.length === 1 ? "differs" : "differ"
      }`;
    case "bytes": {
      const { position, byteHere, byteThere } = difference;
      return `byte ${position} is ${byteText(byteHere)} in ${names.here} and ${
        byteText(byteThere)
      } in ${names.there}`;
    }
    case "damaged":
      return `cannot be compared: ${names[difference.side]} is damaged: ${difference.problem}` +
        (difference.final ? "; nothing behind it was compared" : "");
    case "blob":
      return blobText(difference, names);
    case "record":
      return recordText(difference, names);
    case "data":
      return dataText(difference, names);
    case "record-tid":
      return recordTidText(difference, names);
  }
}

function byteText(byte: number | undefined): string {
  return byte === undefined ? "not there" : `0x${byte.toString(16).padStart(2, "0")}`;
}

function blobText(difference: Extract<Difference, { kind: "blob" }>, names: Names): string {
  const { oid, blobHere, blobThere, marked } = difference;
  const blob = `blob ${formatOidDigits(oid)}`;
  const there = `${bytesText(blobThere)} in ${names.there}`;
  if (blobHere === "missing") {
    return `${names.here} lacks the file of ${blob}${marked ? ", as its list says" : ""}; it has ${there}`;
  }
  if (blobHere === "unreadable") {
    return `the file of ${blob} of ${names.here} cannot be read; it has ${there}`;
  }
  if (blobHere !== blobThere) return `${blob} has ${bytesText(blobHere)} in ${names.here} and ${there}`;
  return `the ${bytesText(blobHere)} of ${blob} differ`;
}

function bytesText(count: number): string {
  return `${count} ${count === 1 ? "byte" : "bytes"}`;
}

function recordText(difference: Extract<Difference, { kind: "record" }>, names: Names): string {
  const { oidHere, oidThere, recordHere, recordThere } = difference;
  if (recordHere === undefined) {
    return `${names.here} lacks the record of object ${formatOidDigits(oidThere!)}${
      at(recordThere, "there", names)
    }`;
  }
  if (recordThere === undefined) {
    return `${names.there} lacks the record of object ${formatOidDigits(oidHere!)}${
      at(recordHere, "here", names)
    }`;
  }
  return `where ${names.here} has a record of object ${formatOidDigits(oidHere!)}${
    at(recordHere, "here", names)
  }, ` +
    `${names.there} has one of ${formatOidDigits(oidThere!)}${at(recordThere, "there", names)}`;
}

function recordTidText(difference: Extract<Difference, { kind: "record-tid" }>, names: Names): string {
  const { oid, recordTidHere, recordTidThere } = difference;
  return `the record of object ${formatOidDigits(oid)} has tid ${
    describeTid(recordTidHere)
  } in ${names.here} and ` +
    `${describeTid(recordTidThere)} in ${names.there}${recordPlaces(difference, names)}`;
}

function dataText(difference: Extract<Difference, { kind: "data" }>, names: Names): string {
  const { oid, recordHere, recordThere, offset } = difference;
  const object = `object ${formatOidDigits(oid)}`;
  const where = recordPlaces(difference, names);
  if (recordHere.length !== recordThere.length) {
    return `${object} has ${lengthText(recordHere)} in ${names.here} and ${lengthText(recordThere)} in ` +
      `${names.there}${where}`;
  }
  const from = offset === undefined ? "" : ` from byte ${offset} on`;
  return `the ${lengthText(recordHere)} of ${object} differ${from}${where}`;
}

function recordPlaces(
  { recordHere, recordThere }: { readonly recordHere: RecordSpot; readonly recordThere: RecordSpot },
  names: Names,
): string {
  const places = [at(recordHere, "here", names), at(recordThere, "there", names)].filter((each) =>
    each !== ""
  );
  if (places.length === 0) return "";
  return ` (${places.length === 1 ? "record" : "records"}${places.join(",")})`;
}

function lengthText({ length }: RecordSpot): string {
  return length === undefined ? "no data any more" : `${length} ${length === 1 ? "byte" : "bytes"} of data`;
}

function at(spot: RecordSpot | undefined, side: Side, names: Names): string {
  return spot?.position === undefined ? "" : ` at ${spot.position} in ${names[side]}`;
}
