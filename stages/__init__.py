"""The DVC stages, one short script each: read settings, call the library, write outputs."""

import importlib.util
import os
import signal
import sys

# The parent process, read as early as possible: if it changes, `dvc repro` was killed.
PARENT = os.getppid()


def _wrong_python() -> "str | None":
    """Return why this Python cannot run the stages; None if it can.

    DVC runs the first `python3` on PATH, which is another one if the environment is not activated.
    """
    root = os.environ.get("DVC_ROOT") or os.getcwd()
    advice = "run `source .venv/bin/activate` before dvc, or use `make repro`."
    environment = os.path.join(root, ".venv")
    if os.path.isdir(environment) and not os.path.samefile(sys.prefix, environment):
        return f"{sys.executable} is not the Python of this project's environment .venv: {advice}"
    if sys.version_info < (3, 11):  # noqa: UP036 - pip may have checked another one
        return f"{sys.executable} is older than Python 3.11: {advice}"
    for name in ("numpy", "h5py", "torch", "yaml", "filelock"):
        if importlib.util.find_spec(name) is None:
            return f"{sys.executable} has no package {name}: {advice}"
    return None


if sys.argv[0] == "-m":  # run as `python -m stages.train`, not imported by a test
    # Without a handler, Ctrl-C during imports ends the process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if _reason := _wrong_python():
        sys.exit("stages: " + _reason)
