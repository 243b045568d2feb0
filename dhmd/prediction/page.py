"""The page of predictions that `dhmd predict --html` writes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from dhmd.base.files import write_text
from dhmd.evaluation.statistics import video_of
from dhmd.evaluation.tables import pluralize
from dhmd.prediction.model import Model, Outputs
from dhmd.report.page import render_template
from dhmd.report.utterances import utterances_view

SOUND = (".wav", ".mp3", ".flac", ".ogg", ".m4a")
VIDEO = (".mp4", ".webm", ".mkv", ".mov", ".avi", ".m4v")


def write_page(output: Path, model: Model, found: Outputs, media: Sequence[Path] = ()) -> None:
    """Write a page with the timeline of the predictions and the explanation of each.

    It works offline: all data are inside; only local media files beside it are opened. `media` are
    such files or their folders; a file shows the video that has its name without the suffix.
    """
    own, utterances = model.description, found.utterances
    explained = model.explanations(utterances)
    shown = utterances_view(
        explained, own.task.low, own.task.high, intervals_N2=utterances.intervals_N2
    )
    files = media_of([video_of(name) for name in utterances.ids], media)
    # Relative addresses, so that page and files can be moved together.
    shown["media"] = {
        video: {
            "src": quote(Path(os.path.relpath(path, output.parent)).as_posix()),
            "element": "audio" if path.suffix.lower() in SOUND else "video",
        }
        for video, path in files.items()
    }
    lead = (
        f"{len(utterances.ids):,} segments, predicted by {model.folder.name}: "
        f"{own.configuration.architecture}, trained on {own.dataset} ({', '.join(own.inputs)}; "
        f"{pluralize(len(found.seeds), 'seed')}). The numbers describe what the model computed, "
        "not what a speaker feels."
    )
    text = render_template(
        "predictions.html", title="Predictions", lead=lead, notes=found.notes, view=shown
    )
    write_text(output, text)


def media_of(videos: Sequence[str], media: Sequence[Path]) -> dict[str, Path]:
    """Return the media file of each video that has one."""
    found: dict[str, Path] = {}
    for path in media:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            if file.suffix.lower() in VIDEO + SOUND:
                # A video before its sound alone.
                known = found.get(file.stem)
                if known is None or known.suffix.lower() in SOUND:
                    found[file.stem] = file
    return {video: found[video] for video in dict.fromkeys(videos) if video in found}
