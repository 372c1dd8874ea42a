/** A heap of events ordered by time; equal times by chance. */

export interface QueuedEvent {
  readonly timeMs: number;
  /** Orders events of the same time. */
  readonly tieBreak: number;
  /** Orders events of the same time and tie break. */
  readonly sequence: number;
  /** What happens; null once cancelled. */
  action: (() => void) | null;
}

function before(a: QueuedEvent, b: QueuedEvent): boolean {
  if (a.timeMs !== b.timeMs) return a.timeMs < b.timeMs;
  if (a.tieBreak !== b.tieBreak) return a.tieBreak < b.tieBreak;
  return a.sequence < b.sequence;
}

export class EventQueue {
  readonly #heap: QueuedEvent[] = [];

  push(event: QueuedEvent): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!before(event, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = event;
  }

  /** The earliest event that has not been cancelled; undefined when there is none. */
  peek(): QueuedEvent | undefined {
    while (this.#heap.length > 0 && this.#heap[0]!.action === null) this.#removeFirst();
    return this.#heap[0];
  }

  /** Takes the earliest event that has not been cancelled. */
  pop(): QueuedEvent | undefined {
    const first = this.peek();
    if (first !== undefined) this.#removeFirst();
    return first;
  }

  #removeFirst(): void {
    const heap = this.#heap;
    const last = heap.pop()!;
    if (heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++;
      if (!before(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
  }
}
