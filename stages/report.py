"""Stage `report`: the page, figures and plot data of one dataset, into reports/<dataset>."""

from __future__ import annotations

from stages._entry import Stage, run


def work(stage: Stage) -> None:
    """Draw the results of the other stages."""
    from dhmd.report.job import report_job

    report_job(stage.aligned, stage.pretrained, stage.models, stage.metrics, stage.report)
    stage.record_results()


if __name__ == "__main__":
    run("report", work)
