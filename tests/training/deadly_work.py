"""Work that takes its process down, as a decoder might: what a pool of processes must survive."""

from __future__ import annotations

import os
from dataclasses import dataclass

from fantasyid.training.config import Curate


@dataclass(frozen=True)
class DeadlyWork:
    """Ends the process on files that are called so."""

    rules: Curate

    def __call__(self, path: str) -> str | None:
        if "deadly" in path:
            os._exit(3)
        return "seen"
