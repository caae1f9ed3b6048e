"""`python -m fantasyid.convert`: the command of `fantasyid/weights/convert`."""

import sys

from .weights.convert.command import main

if __name__ == "__main__":
    sys.exit(main())
