"""`knock train` for torchrun: `torchrun --nproc-per-node 2 -m knock_training CORPUS --out FILE`."""

from __future__ import annotations

import os
import sys

from knock.cli.main import script

if __name__ == "__main__":
    sys.argv.insert(1, "train")
    code = script()
    sys.stdout.flush()
    sys.stderr.flush()
    # Skip interpreter shutdown; all files are closed by now. In a process that exits before the others, PyTorch's
    # threads occasionally abort ("terminate called without an active exception"), which torchrun reports as a failure.
    os._exit(code)
