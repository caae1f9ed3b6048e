"""Which views of a head to keep: as different from each other as can be.

Source: paper section 3.2 (several views of one person with large pose differences).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..face.faces import Box
from ..face.pose import Pose

VIEW_COUNT = 6
POOL_SIZE = 32
_FIRST_CELL_DEG = 4.0
_CELL_GROWTH = 1.5
# A sharper view of the same pose replaces the one that is held when it is sharper by this factor.
_CLEARLY_SHARPER = 1.2


@dataclass(frozen=True)
class View:
    """One frame of a clip, or one photo, in which the face is good."""

    frame: int  # from 0
    seconds: float | None  # its time in the clip, or None where nobody knows
    pose: Pose
    crop: Tensor  # (512, 512, 3) uint8 RGB, aligned
    box: Box  # pixels of the frame
    points: tuple[tuple[float, float], ...]  # five, in pixels of the frame
    sharpness: float  # see `quality.sharpness`
    name: str = ""  # of its file, where it is a photo of its own
    measured: bool = True  # whether anything told the pose; False for a box alone

    @property
    def when(self) -> str:
        """Which frame or photo, for people."""
        if self.name:
            return self.name
        time = "" if self.seconds is None else f" ({self.seconds:.2f} s)"
        return f"frame {self.frame}{time}"

    @property
    def angles(self) -> str:
        """How the head is turned, for people."""
        return self.pose.words if self.measured else "angles unknown"


def least_difference(poses: Sequence[Pose], chosen: Sequence[int]) -> float:
    """The smallest pose difference between two of the chosen views, in degrees."""
    pairs = ((a, b) for i, a in enumerate(chosen) for b in chosen[:i])
    return min((poses[a].distance(poses[b]) for a, b in pairs), default=math.inf)


def select_views(poses: Sequence[Pose], count: int = VIEW_COUNT) -> list[int]:
    """The views between which the smallest pose difference is largest, the most frontal included.

    Farthest-point selection: start with the most frontal view and always add the one that is
    farthest from those taken. Then views are exchanged one by one while that helps.

    The smallest difference is at least half of the largest possible one: around the k views of the
    best choice lie k disjoint balls of half its distance; while fewer than k views are taken, one
    ball is free, and its center is at least that far from all taken ones. Exchanges only improve.

    Returns:
        Indexes, at most `count`, the most frontal view first.
    """
    if not poses:
        return []
    chosen = [min(range(len(poses)), key=lambda i: poses[i].turned)]
    nearest = [pose.distance(poses[chosen[0]]) for pose in poses]
    while len(chosen) < min(count, len(poses)):
        farthest = max(range(len(poses)), key=lambda i: nearest[i])
        if nearest[farthest] == 0:
            break
        chosen.append(farthest)
        nearest = [min(d, p.distance(poses[farthest])) for d, p in zip(nearest, poses, strict=True)]
    best = least_difference(poses, chosen)
    improved = len(chosen) > 1
    while improved:
        improved = False
        for place in range(1, len(chosen)):
            rest = chosen[:place] + chosen[place + 1 :]
            inner = least_difference(poses, rest)
            for other in range(len(poses)):
                outer = min(poses[other].distance(poses[i]) for i in rest)
                if min(inner, outer) > best + 1e-9:
                    chosen = [*chosen[:place], other, *chosen[place + 1 :]]
                    best, improved = min(inner, outer), True
    return chosen


class ViewPool:
    """A bounded number of views that stand for all views of a clip.

    Poses are counted in cells; each cell keeps its sharpest view. When there are too many cells,
    they grow. So of every view that was ever offered one is held whose pose differs by at most
    the diagonal of a cell, and the smallest difference that can be chosen from the pool is below
    the best of the whole clip by at most two diagonals.
    """

    def __init__(self, size: int = POOL_SIZE) -> None:
        self.size = size
        self.cell_deg = _FIRST_CELL_DEG
        self._held: dict[tuple[int, int, int], tuple[View, float]] = {}

    @property
    def views(self) -> list[View]:
        """All views that are held."""
        return [view for view, _ in self._held.values()]

    def wants(self, pose: Pose, sharpness: float) -> bool:
        """Whether a view of this pose would be kept; `sharpness` in the unit of `offer`."""
        held = self._held.get(self._cell(pose))
        return held is None or sharpness > held[1] * _CLEARLY_SHARPER

    def offer(self, view: View, sharpness: float) -> None:
        """Keep a view if its cell is empty or it is clearly sharper than the one there."""
        if self.wants(view.pose, sharpness):
            self._held[self._cell(view.pose)] = view, sharpness
        while len(self._held) > self.size:
            self.cell_deg *= _CELL_GROWTH
            ranked = sorted(self._held.values(), key=lambda held: -held[1])
            self._held = {}
            for held in ranked:  # the sharpest of each larger cell stays
                self._held.setdefault(self._cell(held[0].pose), held)

    def take_over(self, other: ViewPool) -> None:
        """Offer all views of another pool, and leave that one empty."""
        for view, sharpness in other._held.values():
            self.offer(view, sharpness)
        other._held = {}

    def _cell(self, pose: Pose) -> tuple[int, int, int]:
        # Roll counts a quarter in `Pose.distance`, so its cells are four times as long.
        rolled = (pose.roll + 180) % 360 - 180
        yaw, pitch, roll = pose.yaw, pose.pitch, rolled / 4
        cell = (math.floor(angle / self.cell_deg + 0.5) for angle in (yaw, pitch, roll))
        return next(cell), next(cell), next(cell)
