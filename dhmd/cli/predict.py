"""`dhmd predict`: predict new `.csd` files with a trained model."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = (
        "Only the model directory is needed: neither the dataset config nor params.yaml is read. "
        "A modality without a file is treated as absent."
    )
    parser.add_argument(
        "--model", required=True, type=Path, help="model directory, such as models/demo"
    )
    parser.add_argument(
        "--input",
        required=True,
        type=Path,
        metavar="FOLDER",
        help="directory of new .csd files, named by the dataset config's sequences (words.csd, …) "
        "or as at their source",
    )
    parser.add_argument(
        "--output",
        required=True,
        type=Path,
        metavar="FILE",
        help="CSV to write: id, start and end in seconds, mean over seeds, one column per seed",
    )
    parser.add_argument(
        "--segments",
        type=Path,
        metavar="FILE",
        help="CSV with the columns video, start, end, or a .csd whose rows are the segments "
        "(default: one segment per video)",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")


def run(arguments: argparse.Namespace) -> int:
    """Predict; warnings go to stderr."""
    # PyTorch reads it once, when it is imported: deterministic cuBLAS needs a fixed workspace.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    from dhmd.prediction import predict_folder

    predicted = predict_folder(
        arguments.model,
        arguments.input,
        arguments.output,
        segments=arguments.segments,
        device=arguments.device,
    )
    for note in predicted.notes:
        print(f"dhmd predict: {note}", file=sys.stderr)
    seeds = f"{len(predicted.seeds)} seed{'s' if len(predicted.seeds) != 1 else ''}"
    count = f"{predicted.segments} segment{'s' if predicted.segments != 1 else ''}"
    print(f"wrote {arguments.output}: {count}, {seeds} and their mean")
    return 0
