"""`dhmd migrate`: convert params.yaml and metrics/ of dhmd 0.1 to the format of this version."""

from __future__ import annotations

import re
from argparse import ArgumentParser, Namespace
from pathlib import Path

from dhmd.base.errors import DhmdError, first_line
from dhmd.base.files import atomic_folder, write_text
from dhmd.recipes import repository_root

_MOVED = ("threads", "workers", "device", "cuda_graph")  # from section train to compute
_RENAMED = {"floors.json": "trivial_baselines.json"}


def configure(parser: ArgumentParser) -> None:
    """Add the description; the command has no arguments."""
    parser.description = (
        "Convert params.yaml and metrics/ of dhmd 0.1 to the format of this version, and list the "
        "models that must be trained again. Files in the current format are not changed."
    )


def run(arguments: Namespace) -> int:
    """Migrate the repository, print one line per change, and return 0."""
    root = repository_root()
    lines = [*_migrate_params(root), *_migrate_metrics(root / "metrics"), *_old_models(root)]
    print("\n".join(lines) or "params.yaml, metrics/ and models/ are up to date")
    return 0


def _migrate_params(root: Path) -> list[str]:
    """Move and rename keys in params.yaml without losing comments; return a line if it changed."""
    from dhmd.config.schema import load_section
    from dhmd.config.yaml12 import parse_yaml
    from dhmd.settings import PARAMS_FILE, ParamsFile

    path = root / PARAMS_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DhmdError(f"cannot read {path}: {first_line(error)}") from error
    # The section `train` ends before the next line that is neither indented, empty nor a comment.
    train = re.search(r"(?m)^train:.*\n(?:(?:[ #].*)?\n)*", text)
    if train is None or not re.search(r"(?m)^  device:", train[0]):
        return []
    section, moved = train[0], ""
    for key in _MOVED:
        # A key moves together with the comments above it.
        if match := re.search(rf"(?m)^(?:  #.*\n)*  {key}:.*\n", section):
            section, moved = section.replace(match[0], "", 1), moved + match[0]
    text = text.replace(train[0], f"{section.rstrip()}\n\ncompute:\n{moved}\n", 1)
    text = re.sub(r"(?m)^  vote:", "  auxiliary_average:", text)
    text = re.sub(r"(?m)^(  sources:)\n(?:    \w+: (?:null)?\n)+(?!    )", r"\1 {}\n", text)
    try:
        load_section(ParamsFile, parse_yaml(text, PARAMS_FILE), complete=True)
    except DhmdError as error:
        raise DhmdError(
            f"{error}; this key cannot be migrated: set your values in params.yaml of this version"
        ) from error
    write_text(path, text)
    return [f"{PARAMS_FILE}: moved train.{{{','.join(_MOVED)}}} to compute, renamed model.vote"]


def _migrate_metrics(metrics: Path) -> list[str]:
    """Move the files of each dataset to `details/` and rename them; return a line per dataset."""
    from dhmd.evaluation import files

    lines = []
    for identity in sorted(metrics.glob("[!.]*/identity.json")):
        folder = identity.parent
        with files.expect_current_files(folder):
            task = files.parse_identity(files.read_text(identity), str(identity)).task
            summary = files.read_json(folder / files.METRICS_FILE)
            if "ceiling" in summary:
                summary["oracle"] = summary.pop("ceiling")
            texts = {
                f"{files.DETAILS}/{_RENAMED.get(path.name, path.name)}": files.read_text(path)
                for path in sorted(folder.iterdir())
                if path.suffix in (".csv", ".json") and path.name != files.METRICS_FILE
            }
            headline = files.headline_values(task, summary)
        texts |= {
            files.SUMMARY: files.json_text(summary),
            files.METRICS_FILE: files.json_text(headline),
        }
        missing = f"{files.MISSING_MODALITIES}.csv"
        if missing in texts:
            texts[missing] = re.sub(r"\Awithheld,", "missing,", texts[missing])
        with atomic_folder(folder) as new:
            (new / files.DETAILS).mkdir()
            for name, text in texts.items():
                (new / name).write_text(text, encoding="utf-8", newline="")
        lines.append(f"metrics/{folder.name}: moved {len(texts) - 1} files to {files.DETAILS}/")
    return lines


def _old_models(root: Path) -> list[str]:
    """Return one line for each model that this version cannot read."""
    from dhmd.training.weights import DESCRIPTION, read_description

    lines = []
    for path in sorted(root.glob(f"models/*/{DESCRIPTION}")):
        try:
            read_description(path.parent)
        except DhmdError as error:
            lines.append(f"{error} (run dvc repro)")
    return lines
