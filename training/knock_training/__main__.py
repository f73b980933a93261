"""`knock train`, as torchrun starts it: `torchrun --nproc-per-node 2 -m knock_training CORPUS --out FILE`."""

from __future__ import annotations

import os
import sys

from knock.cli.main import script

if __name__ == "__main__":
    sys.argv.insert(1, "train")
    code = script()
    sys.stdout.flush()
    sys.stderr.flush()
    # All files are closed. In a process that ends before others do, PyTorch's threads now and then abort the usual
    # way out ("terminate called without an active exception"), and torchrun would take the run for failed.
    os._exit(code)
