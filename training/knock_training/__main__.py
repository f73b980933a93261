"""`knock train`, as torchrun starts it: `torchrun --nproc-per-node 2 -m knock_training CORPUS --out FILE`."""

from __future__ import annotations

import sys

from knock.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
