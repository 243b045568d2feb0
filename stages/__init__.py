"""One thin script a DVC stage: read the settings, call the library, write the outputs."""

import os

# Looked at as early as can be: whether it changes later tells that `dvc repro` was killed.
PARENT = os.getppid()
