"""`python -m knock` is the command `knock`."""

import sys

from knock.cli.main import script

sys.exit(script())
