"""What setup.cfg cannot say: a wheel brings along, in the package, what stays beside it in a checkout."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("sql", "dbt", "samples", "luigi.cfg", "central.cfg")  # pipeline/files.py finds them


class BuildWithShippedFiles(build_py):
    """Copies them to pipeline/shipped/; an editable install reads those of the checkout."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib, "pipeline", "shipped")
        shutil.rmtree(target, ignore_errors=True)
        for name in SHIPPED:
            if Path(name).is_dir():
                shutil.copytree(name, target / name, ignore=shutil.ignore_patterns("__pycache__", "target", "logs"))
            else:
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy2(name, target / name)


setup(cmdclass={"build_py": BuildWithShippedFiles})
