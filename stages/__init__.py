"""One thin script a DVC stage: read the settings, call the library, write the outputs."""

import os
import signal
import sys

# Looked at as early as can be: whether it changes later tells that `dvc repro` was killed.
PARENT = os.getppid()

# So stands `python -m stages.train` here. Ctrl-C while Python still loads modules ends it without
# a traceback; stages/_entry.py listens from then on.
if sys.argv[0] == "-m":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
