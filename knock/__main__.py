"""Run the command line with `python -m knock`."""

import sys

from knock.cli.main import script

sys.exit(script())
