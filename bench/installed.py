"""A fresh environment with knock installed as by pip; an editable installation would start more slowly."""

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
    """A virtual environment with knock and links to the other installed packages.

    Args:
        folder: where to create it.

    Attributes:
        folder: its folder. Start processes there: elsewhere Python might import the sources instead.
        python: path of its interpreter.
        knock: path of its command.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        venv.create(folder, symlinks=True, with_pip=False)
        paths = sysconfig.get_paths(scheme="venv", vars={"base": str(folder), "platbase": str(folder)})
        scripts, packages = Path(paths["scripts"]), Path(paths["purelib"])
        for other in Path(sysconfig.get_paths()["purelib"]).iterdir():
            # Every process would read and run a .pth file.
            if other.suffix != ".pth" and not other.name.startswith(("__editable__", "knock")):
                (packages / other.name).symlink_to(other, target_is_directory=other.is_dir())
        for package in PACKAGES:
            shutil.copytree(package, packages / package.name, ignore=shutil.ignore_patterns("__pycache__"))
            compileall.compile_dir(packages / package.name, quiet=1)
        self.python = str(scripts / "python")
        self.knock = str(scripts / "knock")
        Path(self.knock).write_text(SCRIPT.format(python=self.python), encoding="utf-8")
        Path(self.knock).chmod(0o755)
