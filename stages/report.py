"""Stage `report`: the page, figures and plot data of one dataset, into reports/<dataset>."""

from __future__ import annotations

from dhmd.tracking import record_results
from stages._entry import Stage, run


def work(stage: Stage) -> None:
    """Write the report and add the scores to MLflow."""
    from dhmd.report.job import report_job

    report_job(stage.aligned, stage.pretrained, stage.models, stage.metrics, stage.report)
    # Scores and report belong to the MLflow runs of the trainings.
    record_results(stage.settings.tracking, root=stage.root, dataset=stage.dataset)


if __name__ == "__main__":
    run("report", work)
