/**
 * A page of the object index: the positions of up to 256 objects whose oids differ only in the last byte, here
 * called the suffix. It lies in one block of the arena, in one of two forms:
 *
 *     sparse   positions, 6 bytes each, by ascending suffix | the suffixes, 1 byte each | last byte: the count
 *     dense    256 positions, 6 bytes each, 0 where there is no object | the count, 2 bytes
 *
 * Positions are big-endian as in the index file, so that runs of them are copied whole from there and to there.
 * The size class of a sparse page tells its capacity. A page of more than 191 objects is dense: it takes up to a
 * byte more for each of them, and is read and changed without a search.
 */

export const POSITION_BYTES = 6;
export const PAGE_OIDS = 256;

/** Positions have 48 bits in the index file, and so here. */
export const MAX_POSITION = 2 ** 48 - 1;

const FOUR_GIB = 0x1_0000_0000;
/** Where the count stands in a dense page, behind all positions. */
export const DENSE_COUNT = PAGE_OIDS * POSITION_BYTES;

/** Bytes of a block by size class, multiples of 8. Class 0 holds nothing, so that 0 can mean "no page". */
export const BLOCK_BYTES = Uint16Array.of(
  0,
  ...range(8, 64, 8),
  ...range(80, 256, 16),
  ...range(288, 512, 32),
  ...range(576, 1344, 64), // up to 191 objects; for more, a dense page takes no more than 8 bytes each
  DENSE_COUNT + 8,
);
export const DENSE = BLOCK_BYTES.length - 1;

/** How many objects a page can hold, by size class. */
export const CAPACITY = BLOCK_BYTES.map((bytes, sizeClass) => {
  if (sizeClass === 0) return 0;
  return sizeClass === DENSE ? PAGE_OIDS : Math.floor((bytes - 1) / (POSITION_BYTES + 1));
});

/** The least size class by count of objects. */
export const CLASS_FOR = Uint8Array.from(
  { length: PAGE_OIDS + 1 },
  (_, count) => CAPACITY.findIndex((capacity) => capacity >= count),
);

function range(first: number, last: number, step: number): number[] {
  return Array.from({ length: (last - first) / step + 1 }, (_, i) => first + i * step);
}

export function readPosition(view: DataView, at: number): number {
  return view.getUint16(at) * FOUR_GIB + view.getUint32(at + 2);
}

export function writePosition(view: DataView, at: number, position: number): void {
  view.setUint16(at, Math.floor(position / FOUR_GIB));
  view.setUint32(at + 2, position >>> 0);
}

/** How many objects a page holds. */
export function readCount(view: DataView, page: number, sizeClass: number): number {
  return sizeClass === DENSE
    ? view.getUint16(page + DENSE_COUNT)
    : view.getUint8(page + BLOCK_BYTES[sizeClass]! - 1);
}

export function writeCount(view: DataView, page: number, sizeClass: number, count: number): void {
  if (sizeClass === DENSE) view.setUint16(page + DENSE_COUNT, count);
  else view.setUint8(page + BLOCK_BYTES[sizeClass]! - 1, count);
}

/** Makes a block a dense page without objects. */
export function clearDense(bytes: Uint8Array, page: number): void {
  bytes.fill(0, page, page + BLOCK_BYTES[DENSE]!);
}

/** Where the suffixes of a sparse page begin. */
export function suffixesOf(page: number, sizeClass: number): number {
  return page + CAPACITY[sizeClass]! * POSITION_BYTES;
}

/**
 * Finds a suffix among the `count` ascending ones from `start`. It begins where the suffix would be if all were
 * spaced evenly, which takes fewer steps, and steps that the processor foresees, than halving does.
 * @returns its rank, or -1 - the rank it would have
 */
export function findSuffix(bytes: Uint8Array, start: number, count: number, suffix: number): number {
  // New objects mostly have the greatest oid so far.
  if (bytes[start + count - 1]! < suffix) return -1 - count;
  let rank = (suffix * count) >>> 8;
  if (bytes[start + rank]! < suffix) {
    do rank++; while (rank < count && bytes[start + rank]! < suffix);
  } else {
    while (rank > 0 && bytes[start + rank - 1]! >= suffix) rank--;
  }
  return rank < count && bytes[start + rank] === suffix ? rank : -1 - rank;
}

/** Puts a new suffix at its rank. The page must have room, the suffix must not be there. */
export function insertAt(
  bytes: Uint8Array,
  page: number,
  sizeClass: number,
  count: number,
  rank: number,
  suffix: number,
): void {
  if (rank < count) {
    const from = page + rank * POSITION_BYTES;
    bytes.copyWithin(from + POSITION_BYTES, from, page + count * POSITION_BYTES);
  }
  const suffixes = suffixesOf(page, sizeClass);
  for (let i = count; i > rank; i--) bytes[suffixes + i] = bytes[suffixes + i - 1]!;
  bytes[suffixes + rank] = suffix;
}

/** Closes the gap of a removed suffix. */
export function removeAt(
  bytes: Uint8Array,
  page: number,
  sizeClass: number,
  count: number,
  rank: number,
): void {
  const gap = page + rank * POSITION_BYTES;
  bytes.copyWithin(gap, gap + POSITION_BYTES, page + count * POSITION_BYTES);
  const suffixes = suffixesOf(page, sizeClass);
  bytes.copyWithin(suffixes + rank, suffixes + rank + 1, suffixes + count);
}

/** Visits a page's objects by ascending suffix. */
export function visitPage(
  view: DataView,
  page: number,
  sizeClass: number,
  visit: (suffix: number, position: number) => void,
): void {
  if (sizeClass === DENSE) {
    for (let suffix = 0; suffix < PAGE_OIDS; suffix++) {
      const position = readPosition(view, page + suffix * POSITION_BYTES);
      if (position !== 0) visit(suffix, position);
    }
    return;
  }
  const count = readCount(view, page, sizeClass);
  const suffixes = suffixesOf(page, sizeClass);
  for (let rank = 0; rank < count; rank++) {
    visit(view.getUint8(suffixes + rank), readPosition(view, page + rank * POSITION_BYTES));
  }
}

/** Copies an object's position. Six assignments are quicker than a native copy of six bytes. */
function copyPosition(from: Uint8Array, fromAt: number, to: Uint8Array, toAt: number): void {
  for (let i = 0; i < POSITION_BYTES; i++) to[toAt + i] = from[fromAt + i]!;
}

/** Below this many bytes a loop beats the making of a view and a native copy. */
const SMALL_COPY = 48;

export function copyBytes(
  from: Uint8Array,
  fromAt: number,
  to: Uint8Array,
  toAt: number,
  length: number,
): void {
  if (length <= SMALL_COPY) {
    for (let i = 0; i < length; i++) to[toAt + i] = from[fromAt + i]!;
  } else {
    to.set(from.subarray(fromAt, fromAt + length), toAt);
  }
}

/**
 * Fills a new page from a bucket of the index file.
 * @param suffixesAt where the page's part of the bucket's suffixes begins, 2 bytes each, already found ascending
 * @param positionsAt where its positions begin
 */
export function fillPage(
  bucket: Uint8Array,
  suffixesAt: number,
  positionsAt: number,
  count: number,
  bytes: Uint8Array,
  page: number,
  sizeClass: number,
): void {
  if (sizeClass === DENSE && count < PAGE_OIDS) {
    clearDense(bytes, page);
    for (let i = 0; i < count; i++) {
      const suffix = bucket[suffixesAt + 2 * i + 1]!;
      copyPosition(bucket, positionsAt + i * POSITION_BYTES, bytes, page + suffix * POSITION_BYTES);
    }
    return;
  }
  copyBytes(bucket, positionsAt, bytes, page, count * POSITION_BYTES);
  if (sizeClass === DENSE) return;
  const suffixes = suffixesOf(page, sizeClass);
  for (let i = 0; i < count; i++) bytes[suffixes + i] = bucket[suffixesAt + 2 * i + 1]!;
}

/** The opposite of {@link fillPage}: puts a page's part into a bucket of the index file. */
export function packPage(
  bytes: Uint8Array,
  page: number,
  sizeClass: number,
  count: number,
  suffixHigh: number,
  bucket: Uint8Array,
  suffixesAt: number,
  positionsAt: number,
): void {
  if (sizeClass === DENSE && count < PAGE_OIDS) {
    for (let suffix = 0, i = 0; suffix < PAGE_OIDS; suffix++) {
      const at = page + suffix * POSITION_BYTES;
      if (!isPresent(bytes, at)) continue;
      bucket[suffixesAt + 2 * i] = suffixHigh;
      bucket[suffixesAt + 2 * i + 1] = suffix;
      copyPosition(bytes, at, bucket, positionsAt + i * POSITION_BYTES);
      i++;
    }
    return;
  }
  copyBytes(bytes, page, bucket, positionsAt, count * POSITION_BYTES);
  const suffixes = sizeClass === DENSE ? -1 : suffixesOf(page, sizeClass);
  for (let i = 0; i < count; i++) {
    bucket[suffixesAt + 2 * i] = suffixHigh;
    bucket[suffixesAt + 2 * i + 1] = suffixes < 0 ? i : bytes[suffixes + i]!;
  }
}

function isPresent(bytes: Uint8Array, at: number): boolean {
  for (let i = 0; i < POSITION_BYTES; i++) if (bytes[at + i] !== 0) return true;
  return false;
}
