"""`dhmd compare`: a table and a figure of models, experiments and other code's predictions."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dhmd.base.errors import DhmdError
from dhmd.base.files import atomic_file, check_output

if TYPE_CHECKING:
    import pandas as pd

_FORMATS = (".svg", ".pdf")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = (
        "Compare test scores with those of the first name: paired by seed, with intervals over "
        "seeds and over test utterances, and Holm's correction."
    )
    parser.add_argument(
        "names",
        nargs="+",
        metavar="NAME",
        help="a model or variant of the workspace (dhmd, mult), a Git revision, a DVC experiment, "
        "or a CSV file with the columns id, seed and prediction",
    )
    parser.add_argument("--dataset", help="dataset to compare (default: the only one in metrics/)")
    parser.add_argument(
        "--by",
        action="append",
        default=[],
        metavar="KEY",
        help="add a column with a key of params.yaml, such as kd.lambda; may be repeated",
    )
    parser.add_argument(
        "--metric", help="metric of the differences (default: the dataset's primary metric)"
    )
    parser.add_argument(
        "--sort",
        metavar="valid.METRIC",
        help="sort by a validation metric, best first (default: the order of the names)",
    )
    parser.add_argument(
        "--figure", type=Path, metavar="FILE", help="figure to write (.svg or .pdf)"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="print Markdown")
    form.add_argument(
        "--latex", action="store_true", help="print a LaTeX table (requires the booktabs package)"
    )
    form.add_argument("--csv", action="store_true", help="print all values as CSV, unrounded")


def run(arguments: argparse.Namespace) -> int:
    """Print the table and write the figure."""
    from dhmd.comparison import as_table, compare

    figure: Path | None = arguments.figure
    if figure is not None:
        if figure.suffix not in _FORMATS:
            raise DhmdError(f"--figure is {figure}, but must end with {' or '.join(_FORMATS)}")
        check_output(figure)
    comparison = compare(
        arguments.names,
        dataset=arguments.dataset,
        by=arguments.by,
        metric=arguments.metric,
        sort=arguments.sort,
    )
    if arguments.csv:
        print(comparison.to_csv(index=False), end="")
    else:
        form = next((form for form in ("markdown", "latex") if vars(arguments)[form]), "text")
        print(as_table(comparison).format(form))
    if figure is not None:
        _draw(comparison, figure)
        print(f"wrote {figure}", file=sys.stderr)  # stdout has only the table
    return 0


def _draw(comparison: pd.DataFrame, path: Path) -> None:
    """Draw mean and standard deviation, and the differences with both intervals."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    metric, rows = comparison.attrs["metric"], range(len(comparison))
    with mpl.rc_context({"svg.hashsalt": "dhmd", "svg.fonttype": "none", "font.size": 8}):
        figure: Any = Figure(figsize=(7, 0.3 * len(comparison) + 0.9), layout="constrained")
        scores, differences = figure.subplots(1, 2, sharey=True)
        scores.errorbar(
            comparison[metric], rows, xerr=comparison[f"{metric}_sd"], fmt="o", color="k"
        )
        scores.set(yticks=list(rows), yticklabels=list(comparison["name"]))
        scores.set_xlabel(f"test {metric}, mean ± standard deviation over seeds")
        scores.invert_yaxis()
        differences.axvline(0, color="grey", linewidth=0.8)
        for low, high, width in (("utterances_low", "utterances_high", 1), ("low", "high", 3)):
            differences.hlines(rows, comparison[low], comparison[high], color="C0", linewidth=width)
        differences.plot(comparison["difference"], rows, "o", color="k")
        differences.set_xlabel(
            f"difference from {comparison.attrs['reference']}, 95 % intervals: over seeds (thick), "
            "over utterances (thin)"
        )
        for axes in (scores, differences):
            axes.spines[["top", "right"]].set_visible(False)
        # Without a date, the same numbers give the same bytes.
        date = {"Date": None} if path.suffix == ".svg" else {"CreationDate": None}
        with atomic_file(path) as partial:
            figure.savefig(partial, format=path.suffix[1:], metadata=date)
