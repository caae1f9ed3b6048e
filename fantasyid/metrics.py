"""`python -m fantasyid.metrics`: the command of `fantasyid/evaluation/metrics`."""

import sys

from .evaluation.metrics.command import main

if __name__ == "__main__":
    sys.exit(main())
