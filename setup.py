"""Ship params.yaml and the recipes with the package, for use outside a clone of the repository."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithDefaults(build_py):
    """Copy them to dhmd/defaults of a wheel; an editable install finds them in the clone."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "dhmd", "defaults")
            shutil.copytree("recipes", target / "recipes", dirs_exist_ok=True)
            shutil.copy("params.yaml", target)


setup(cmdclass={"build_py": BuildWithDefaults})
