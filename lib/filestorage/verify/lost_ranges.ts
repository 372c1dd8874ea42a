/**
 * The stretches of a file of which nothing could be made: a link that leads into one of them is no damage of its
 * own. They come in ascending order.
 */

/** Beyond so many, neighbours are taken together: a file of nothing but damage must not fill the memory. */
const MAX_RANGES = 1_000_000;

export class LostRanges {
  /** Start and end of each. */
  readonly #bounds: number[] = [];

  add(start: number, end: number): void {
    if (this.#bounds.length >= 2 * MAX_RANGES) this.#bounds[this.#bounds.length - 1] = end;
    else this.#bounds.push(start, end);
  }

  has(position: number): boolean {
    let low = 0;
    let high = this.#bounds.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#bounds[middle]! <= position) low = middle + 1;
      else high = middle;
    }
    return low % 2 === 1; // behind a start, not yet behind its end
  }
}
