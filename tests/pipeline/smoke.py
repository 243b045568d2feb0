"""`make smoke`: run all stages of the demo in a temporary copy, with one seed and one epoch.

The stages run in one process, which imports the libraries only once.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.pipeline.scratch import ROOT, STAGES, copy_code

DATASET = "demo"
VALUES = {
    "train": {"seeds": [1], "epochs": 1},
    "compute": {"workers": 1, "device": "cpu"},
    "pretrain": {"epochs": 1, "folds": 2},
    "ablate": {"variants": []},
    "evaluate": {"resamples": 100},
    "tracking": {"enabled": False},
}


def copy(folder: Path) -> None:
    """Copy the code, and params.yaml with smaller values."""
    import yaml

    copy_code(folder)
    from dhmd.config.yaml12 import load_yaml

    params = load_yaml(ROOT / "params.yaml")
    assert isinstance(params, dict)
    for section, values in VALUES.items():
        params[section].update(values)
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def main() -> int:
    """Run the stages, print the summary and return the exit status."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dhmd-smoke-") as name:
        folder = Path(name)
        copy(folder)
        os.chdir(folder)
        os.environ.pop("DVC_ROOT", None)
        _import_from(folder)
        entry = importlib.import_module("stages._entry")
        for stage in STAGES:
            work = importlib.import_module(f"stages.{stage}").work
            if status := entry.run_stage(stage, work, [DATASET]):
                return int(status)
        cli = importlib.import_module("dhmd.cli")
        status = cli.main(["summary", DATASET])
        os.chdir(ROOT)
    print(f"smoke: every stage of {DATASET} ran, {time.monotonic() - start:.0f} s")
    return int(status)


def _import_from(folder: Path) -> None:
    """Let later imports of dhmd and stages import the copy."""
    sys.path.insert(0, str(folder))
    for name in list(sys.modules):
        if name.split(".")[0] in ("dhmd", "stages"):
            del sys.modules[name]


if __name__ == "__main__":
    sys.exit(main())
