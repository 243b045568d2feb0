"""Run training tasks, one after the other: `python -m dhmd.training.run_task TASK.json...`"""

from __future__ import annotations

import argparse
import sys

from dhmd.training.task import main

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run training tasks.")
    parser.add_argument("tasks", nargs="+", metavar="TASK.json")
    parser.add_argument(
        "--parent", type=int, help="id of the parent process; exit when the parent exits"
    )
    arguments = parser.parse_args()
    sys.exit(main(arguments.tasks, arguments.parent))
