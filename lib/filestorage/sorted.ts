/** Finding a place in what is sorted. */

/** How many values of a list that never falls are not greater than `value`. */
export function countUpTo<Value extends number | bigint>(sorted: readonly Value[], value: Value): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle]! <= value) low = middle + 1;
    else high = middle;
  }
  return low;
}
