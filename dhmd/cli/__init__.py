"""The console script `dhmd`.

Each sub-command is a module with `configure(parser)` and `run(arguments) -> exit status`, imported
only when it is called: `dhmd --help` stays quick. A module whose failures must not read as another
of its answers names its own exit status in `ERROR_EXIT` (1 where it does not).
"""

from dhmd.cli.dispatch import main

__all__ = ["main"]
