"""`python -m fantasyid.download`: the command of `fantasyid/weights/download`."""

import sys

from .weights.download.command import main

if __name__ == "__main__":
    sys.exit(main())
