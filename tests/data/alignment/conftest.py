"""Configure Hypothesis: the same examples in every run, and no time limit."""

from hypothesis import settings

settings.register_profile("deterministic", deadline=None, derandomize=True)
settings.load_profile("deterministic")
