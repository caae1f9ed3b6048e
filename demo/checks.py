"""What is looked at before anything is fetched: the disk, the port, the photo."""

from __future__ import annotations

import errno
import shutil
import socket
from pathlib import Path

from .console import Problem, in_words


def check_disk(folder: Path, need: int) -> None:
    """Raise a Problem where fewer than `need` bytes are free on the disk of `folder`."""
    free = shutil.disk_usage(folder).free
    if free < need:
        raise Problem(
            f"There is not enough disk space: {in_words(need)} are needed in {folder} and "
            f"{in_words(free)} are free; free some space and run the command again."
        )


def choose_port(wanted: int | None) -> int:
    """A free loopback port: the wanted one, or any.

    Raises:
        Problem: the wanted port is taken or cannot be had.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # On Windows SO_REUSEADDR would let a taken port be bound.
        exclusive = getattr(socket, "SO_EXCLUSIVEADDRUSE", None)
        probe.setsockopt(socket.SOL_SOCKET, exclusive or socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted or 0))
        except OverflowError:
            raise Problem(f"Port {wanted} does not exist: choose one up to 65535.") from None
        except OSError as error:
            reason = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error})"
            raise Problem(
                f"Port {wanted} {reason}: choose another with --port, or leave --port away for a "
                "free one."
            ) from None
        return int(probe.getsockname()[1])


def check_photo(photo: Path) -> None:
    """Raise a Problem where there is no photo."""
    if not photo.is_file():
        raise Problem(f"There is no photo at {photo}: give --photo an image file.")
