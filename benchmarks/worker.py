"""A process that trains steps when told to: `python -m benchmarks.worker SHAPE THREADS STEPS`.

For each line on standard input it trains the steps and prints its wall and CPU seconds.
"""

from __future__ import annotations

import sys

from benchmarks.engine import MOSI, TINY, Fast, computing, random_corpus
from benchmarks.measure import Time, scratch


def main() -> None:
    name, threads, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    shape = {"MOSI": MOSI, "tiny": TINY}[name]
    with computing("cpu", threads) as device, scratch() as folder:
        fast = Fast(shape, random_corpus(shape, 2 * shape.batch, device), 1, folder=folder)
        for _ in sys.stdin:
            time = Time.of(lambda: [fast.step() for _ in range(steps)])
            print(time.wall, time.cpu, flush=True)


if __name__ == "__main__":
    main()
