"""`python -m fantasyid.evaluate`: the command of `fantasyid/evaluation/protocol`."""

import sys

from .evaluation.protocol.command import main

if __name__ == "__main__":
    sys.exit(main())
