"""Time of single operations of a training step: `python -m benchmarks.kernels --help`.

Each row compares an obvious implementation with the one in `dhmd/models`, at MOSI's shape on the
CPU: the least CPU time of n runs, since other processes can only add to it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measure import RESULTS, Spread, Time, machine, make_row, rounded, table_of, write

HEAD, STEPS = 5, 50


def cases(count: int) -> dict[str, tuple[str, Callable[[], object], str, Callable[[], object]]]:
    """Return the obvious implementation and the one that is used of each operation.

    Each has a name and a function that calls it.

    Args:
        count: number of sequences times heads.
    """
    weights, value = torch.rand(count, STEPS, STEPS), torch.randn(count, STEPS, HEAD)
    value_first = value.transpose(1, 2).contiguous()
    query, key = torch.randn(count, STEPS, HEAD), torch.randn(count, HEAD, STEPS)
    out = torch.empty_like(weights)
    bits = torch.randint(-32768, 32767, weights.shape).to(torch.int16)
    padding = torch.rand(count, 1, STEPS) > 0.5
    bias = padding.float() * -1e9
    words = torch.empty(weights.numel() // 4, dtype=torch.int64)
    twister, sfc64 = torch.Generator(), np.random.SFC64(1)
    heads = torch.randn(4, count // 4, STEPS, HEAD)

    def ours() -> None:
        torch.bmm(query, key, out=out)
        torch.softmax(out, -1, out=out)
        torch.bmm(value_first, out.transpose(1, 2))

    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return {
        "weights times values": (
            "[50, 50] × [50, 5]",
            lambda: torch.bmm(weights, value),
            "[5, 50] × [50, 50]",
            lambda: torch.bmm(value_first, weights.transpose(1, 2)),
        ),
        "gradient of the values": (
            "[50, 50] × [50, 5]",
            lambda: torch.bmm(weights.transpose(1, 2), value),
            "[5, 50] × [50, 50]",
            lambda: torch.bmm(value_first, weights),
        ),
        "dropout's mask": (
            "boolean, then float",
            lambda: (bits >= 0).to(torch.float32),
            "compared into float",
            lambda: torch.ge(bits, 0, out=out),
        ),
        "dropout": (
            "bernoulli_",
            lambda: out.bernoulli_(0.7),
            "16 bits, compared, multiplied",
            lambda: torch.ge(bits, 0, out=out).mul_(weights),
        ),
        "hiding padding": (
            "masked_fill",
            lambda: weights.masked_fill(padding, -torch.inf),
            "a sum",
            lambda: weights + bias,
        ),
        "random bits": (
            "torch's Mersenne twister",
            lambda: words.random_(-(2**63), None, generator=twister),
            "SFC64",
            lambda: words.copy_(torch.from_numpy(sfc64.random_raw(len(words)).view(np.int64))),
        ),
        "attention without dropout": (
            "torch's fused kernel",
            lambda: fused(heads, heads, heads),
            "products and softmax",
            ours,
        ),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Format the rows for docs/performance.md."""
    columns = {
        "operation": lambda row: row["name"].removeprefix("kernel, "),
        "obvious": "obvious",
        "obvious, ms": "obvious_ms",
        "used": "used",
        "used, ms": "used_ms",
        "ratio": lambda row: rounded(row["ratio"]["median"]),
    }
    return table_of(rows, columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.kernels")
    parser.add_argument(
        "--sequences", type=int, default=960, help="sequences × heads (default: 6 pairs × 16 × 10)"
    )
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", type=Path, default=RESULTS / "kernels.json")
    arguments = parser.parse_args()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows = []
    try:
        for name, (obvious, slow, used, fast) in cases(arguments.sequences).items():
            least = []
            for work in (slow, fast):
                work()
                least.append(min(Time.of(work).cpu for _ in range(arguments.repeats)))
            rows.append(
                make_row(
                    f"kernel, {name}",
                    Spread.of([least[0] / max(least[1], 1e-9)]),
                    obvious=obvious,
                    obvious_ms=1e3 * least[0],
                    used=used,
                    used_ms=1e3 * least[1],
                )
            )
        about = machine()
    finally:
        torch.set_num_threads(threads)
    print(table(rows))
    write(arguments.json, "kernels", {"machine": about, "rows": rows})


if __name__ == "__main__":
    main()
