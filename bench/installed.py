"""A fresh environment with knock in it, as pip makes one: an editable installation starts more slowly."""

from __future__ import annotations

import compileall
import shutil
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = (ROOT / "knock", ROOT / "kernels" / "knock_kernels", ROOT / "training" / "knock_training")
SCRIPT = """#!{python}
import sys
from knock.cli.main import script
if __name__ == "__main__":
    sys.exit(script())
"""


class Installed:
    """The environment.

    Attributes:
        folder: where it is. Processes start there, or Python would find the sources before what is installed.
        python: its interpreter.
        knock: its command.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        venv.create(folder, symlinks=True, with_pip=False)
        paths = sysconfig.get_paths(scheme="venv", vars={"base": str(folder), "platbase": str(folder)})
        scripts, packages = Path(paths["scripts"]), Path(paths["purelib"])
        for other in Path(sysconfig.get_paths()["purelib"]).iterdir():
            # A .pth file would be read, and run, by every process that starts.
            if other.suffix != ".pth" and not other.name.startswith(("__editable__", "knock")):
                (packages / other.name).symlink_to(other, target_is_directory=other.is_dir())
        for package in PACKAGES:
            shutil.copytree(package, packages / package.name, ignore=shutil.ignore_patterns("__pycache__"))
            compileall.compile_dir(packages / package.name, quiet=1)
        self.python = str(scripts / "python")
        self.knock = str(scripts / "knock")
        Path(self.knock).write_text(SCRIPT.format(python=self.python), encoding="utf-8")
        Path(self.knock).chmod(0o755)
