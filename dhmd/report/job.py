"""The report of one dataset, as files: the work of the `report` stage."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from dhmd.base.files import file_sha256, whole_folder
from dhmd.evaluation.files import METRICS_FILE
from dhmd.report.inputs import read_inputs
from dhmd.report.markup import PAGE, document, safe
from dhmd.report.page import build
from dhmd.report.plots import plots
from dhmd.report.svg import for_file

PICTURES: Final = "pictures"
PLOTS: Final = "plots"


def report_job(cache: Path, pretrained: Path, models: Path, metrics: Path, output: Path) -> None:
    """Write `reports/<dataset>/`: the page, its pictures, the data of plots.

    Args:
        cache: the aligned cache.
        pretrained, models: folders that `pretrain` and `train` wrote.
        metrics: the folder that `evaluate` wrote.
        output: appears whole or not at all, the same bytes for the same input.

    Raises:
        DhmdError: a file is missing or damaged, or they are not of one and the same corpus.
    """
    inputs = read_inputs(cache, pretrained, models, metrics)
    report = build(inputs)
    article = (
        f'<article id="{safe(inputs.name)}" data-task="{inputs.task}" '
        f'data-metrics="{file_sha256(metrics / METRICS_FILE)}">\n{report.body}\n</article>'
    )
    page = document(f"{inputs.name}: DHMD's results", [("", inputs.name), *report.links], article)
    with whole_folder(output) as folder:
        (folder / PAGE).write_text(page, encoding="utf-8", newline="")
        (folder / PICTURES).mkdir()
        for picture in report.pictures:
            path = folder / PICTURES / f"{picture.name}.svg"
            path.write_text(for_file(picture.svg), encoding="utf-8", newline="")
        (folder / PLOTS).mkdir()
        for name, text in plots(inputs).items():
            (folder / PLOTS / name).write_text(text, encoding="utf-8", newline="")
