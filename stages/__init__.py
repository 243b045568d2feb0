"""One thin script per DVC stage: read the settings, call the library, write the outputs."""

import importlib.util
import os
import signal
import sys

# Read as early as possible: if it changes later, `dvc repro` was killed.
PARENT = os.getppid()


def _wrong_python() -> "str | None":
    """Return why this Python cannot run the stages; None if it can.

    DVC starts the first `python3` on PATH, which is another one if no environment is activated.
    """
    root = os.environ.get("DVC_ROOT") or os.getcwd()
    cure = "run `source .venv/bin/activate` before dvc, or use `make repro`."
    ours = os.path.join(root, ".venv")
    if os.path.isdir(ours) and os.path.realpath(sys.prefix) != os.path.realpath(ours):
        return f"{sys.executable} is not the Python of this project's environment .venv: {cure}"
    if sys.version_info < (3, 11):  # noqa: UP036 - it runs before the package's own check
        return f"{sys.executable} is older than Python 3.11: {cure}"
    for name in ("numpy", "h5py", "torch", "yaml", "filelock"):
        if importlib.util.find_spec(name) is None:
            return f"{sys.executable} has no package {name}: {cure}"
    return None


if sys.argv[0] == "-m":  # `python -m stages.train`, not an import by a test
    # Ctrl-C while modules are imported ends the process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if _reason := _wrong_python():
        sys.exit("stages: " + _reason)
