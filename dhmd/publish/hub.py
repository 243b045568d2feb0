"""Upload models to the Hugging Face hub, and download them (extra `hub`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dhmd.base.errors import DhmdError, first_line
from dhmd.base.optional import import_optional
from dhmd.training.finetuning import FOLDER
from dhmd.training.history import HISTORY
from dhmd.training.weights import DESCRIPTION

CARD = "README.md"
# The published files of a model directory: all but its predictions of the training corpus.
PATTERNS = (CARD, DESCRIPTION, HISTORY, "seed-*.safetensors", f"{FOLDER}/*")


def fetch(name: str) -> Path:
    """Download a model to the cache of the hub's client, unless the cache has it.

    Args:
        name: `user/model`, or `user/model@revision` for a branch, a tag or a commit.

    Returns:
        The model directory.

    Raises:
        DhmdError: there is no such model, it cannot be downloaded, or dhmd did not write it.
    """
    repository, _, revision = name.partition("@")
    with _hub(f"{name} is not a folder, and cannot be downloaded from the Hugging Face hub") as hub:
        folder = hub.snapshot_download(
            repository, revision=revision or None, allow_patterns=list(PATTERNS)
        )
    if not (Path(folder) / DESCRIPTION).is_file():
        raise DhmdError(f"{name} on the Hugging Face hub has no {DESCRIPTION}: dhmd cannot load it")
    return Path(folder)


def push(folder: Path, name: str, *, private: bool = False) -> str:
    """Upload an exported model in one commit.

    Args:
        folder: a directory that `export` wrote.
        name: `user/model`; the repository is created if it does not exist.
        private: whether a new repository is visible only to its owner.

    Returns:
        The URL of the repository.

    Raises:
        DhmdError: the upload failed.
    """
    with _hub(f"{folder} cannot be pushed to {name}") as hub:
        api = hub.HfApi()
        api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=name, folder_path=folder, commit_message="Upload a model with dhmd"
        )
        return f"{api.endpoint}/{name}"


@contextmanager
def _hub(failure: str) -> Iterator[Any]:
    """Yield the module huggingface_hub; convert its errors to a `DhmdError` after `failure`."""
    hub = import_optional("huggingface_hub", "hub")
    try:
        yield hub
    except (OSError, ValueError, RuntimeError, hub.errors.HfHubHTTPError) as error:
        # The messages have several paragraphs; the first two lines contain the cause.
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise DhmdError(f"{failure}: {' '.join(lines[:2]) or first_line(error)}") from error
