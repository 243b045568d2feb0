"""Write the page of predictions of `dhmd predict --html`."""

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


def write_page(output: Path, model: Model, outputs: Outputs, media: Sequence[Path] = ()) -> None:
    """Write a page with a timeline of the predictions and an explanation of each.

    The page works offline: it contains all data, and only the media files are opened by their path.

    Args:
        output: the page to write.
        model: the model that made the predictions.
        outputs: the predictions.
        media: media files, or folders of them, that the page plays; a file belongs to the video
            with its name without the suffix.
    """
    description, utterances = model.description, outputs.utterances
    explanations = model.explanations(utterances)
    low, high = description.task.low, description.task.high
    page_data = utterances_view(explanations, low, high, intervals_N2=utterances.intervals_N2)
    files = media_by_video([video_of(name) for name in utterances.ids], media)
    # Relative addresses, so that page and files can be moved together.
    page_data["media"] = {
        video: {
            "src": quote(Path(os.path.relpath(path, output.parent)).as_posix()),
            "element": "audio" if path.suffix.lower() in SOUND else "video",
        }
        for video, path in files.items()
    }
    lead = (
        f"{len(utterances.ids):,} segments, predicted by {model.folder.name}: "
        f"{description.configuration.architecture}, trained on {description.dataset} "
        f"({', '.join(description.inputs)}; {pluralize(len(outputs.seeds), 'seed')}). The numbers "
        "describe what the model computed, not what a speaker feels."
    )
    text = render_template(
        "predictions.html", title="Predictions", lead=lead, notes=outputs.notes, view=page_data
    )
    write_text(output, text)


def media_by_video(videos: Sequence[str], media: Sequence[Path]) -> dict[str, Path]:
    """Return the media file of each video that has one."""
    files: dict[str, Path] = {}
    for path in media:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            if file.suffix.lower() in VIDEO + SOUND:
                # A video file takes precedence over an audio file of the same name.
                other = files.get(file.stem)
                if other is None or other.suffix.lower() in SOUND:
                    files[file.stem] = file
    return {video: files[video] for video in dict.fromkeys(videos) if video in files}
