"""Train steps on request: `python -m benchmarks.worker SHAPE THREADS STEPS`.

For each line on standard input, train STEPS steps and print their wall-clock and CPU seconds.
"""

from __future__ import annotations

import sys

from benchmarks.engine import MOSI, TINY, EnsembleRun, prepared_device, random_corpus
from benchmarks.measure import Time, scratch_folder


def main() -> None:
    name, threads, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    shape = {"MOSI": MOSI, "tiny": TINY}[name]
    with prepared_device("cpu", threads) as device, scratch_folder() as folder:
        fast = EnsembleRun(shape, random_corpus(shape, 2 * shape.batch, device), 1, folder=folder)
        for _ in sys.stdin:
            time = Time.of(lambda: [fast.step() for _ in range(steps)])
            print(time.wall, time.cpu, flush=True)


if __name__ == "__main__":
    main()
