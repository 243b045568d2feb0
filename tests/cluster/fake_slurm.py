"""Fake `sbatch`, `squeue` and `scancel`, which run jobs as processes of this machine.

The programs share a folder: `jobs/<id>` contains the process id of a job.
"""

from __future__ import annotations

import sys
from pathlib import Path

_SBATCH = """#!{python}
import os, subprocess, sys, pathlib
folder = pathlib.Path({folder!r})
options = dict(o[2:].partition("=")[::2] for o in sys.argv[1:-1])
(folder / "calls").open("a").write(" ".join(sys.argv[1:-1]) + chr(10))
number = 1 + len({{p.name.partition("_")[0] for p in (folder / "jobs").iterdir()}})
script = folder / f"script-{{number}}"  # the driver deletes its own
script.write_text(pathlib.Path(sys.argv[-1]).read_text())
last = int(options["array"].partition("%")[0].partition("-")[2])
for index in range(last + 1):
    command = ["bash", str(script)]
    environment = {{**os.environ, "SLURM_ARRAY_TASK_ID": str(index)}}
    quiet = subprocess.DEVNULL
    job = subprocess.Popen(command, env=environment, start_new_session=True, stdout=quiet,
                           stderr=quiet, stdin=quiet, cwd=options.get("chdir"))
    (folder / "jobs" / f"{{number}}_{{index}}").write_text(str(job.pid))
print(number)
"""

_SQUEUE = """#!{python}
import pathlib
for path in sorted(pathlib.Path({folder!r}, "jobs").iterdir()):
    try:
        state = pathlib.Path("/proc", path.read_text(), "stat").read_text().rpartition(")")[2]
    except FileNotFoundError:
        continue
    if state.split()[0] != "Z":
        print(path.name)
"""

_SCANCEL = """#!{python}
import os, pathlib, signal, sys
for name in sys.argv[1:]:
    path = pathlib.Path({folder!r}, "jobs", name)
    try:
        os.killpg(int(path.read_text()), signal.SIGKILL)
    except ProcessLookupError:
        pass
"""


def write_fake_slurm(folder: Path) -> Path:
    """Write the programs and return their folder, for PATH."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    (folder / "jobs").mkdir()
    for name, text in (("sbatch", _SBATCH), ("squeue", _SQUEUE), ("scancel", _SCANCEL)):
        path = programs / name
        path.write_text(text.format(python=sys.executable, folder=str(folder)))
        path.chmod(0o755)
    return programs
