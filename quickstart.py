"""From a face photo to a video on this machine, and the tests: `quickstart.py [test]`.

Standard library only. This file keeps to syntax that old Pythons can read, so that they can say
what is missing; everything else is in `demo/`.
"""

import sys

OLDEST = (3, 10)


def python_problem(version):
    """The sentence for a Python that is too old, or None.

    Args:
        version: at least (major, minor) of the running interpreter.
    """
    if tuple(version[:2]) >= OLDEST:
        return None
    return (
        f"quickstart.py needs Python {OLDEST[0]}.{OLDEST[1]} or newer, and this is Python "
        f"{version[0]}.{version[1]} ({sys.executable}): start it with a newer one, for example "
        "`python3.11 quickstart.py`."
    )


if __name__ == "__main__":
    problem = python_problem(sys.version_info)
    if problem is not None:
        sys.stderr.write(problem + "\n")
        sys.exit(2)
    from demo.command import main

    sys.exit(main(sys.argv[1:]))
