"""A face is followed where it goes, and given up where no head can have gone."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from fantasyid.face.pose import FaceFit
from fantasyid.views.track import follow, pyramid

SIDE, CENTER = 320, np.array([160.0, 150.0])
FIT = FaceFit(np.eye(3), 0.8, CENTER)


@pytest.fixture(scope="module")
def picture() -> NDArray[np.float64]:
    blots = gaussian_filter(np.random.default_rng(0).standard_normal((SIDE, SIDE)), 6)
    return (blots - blots.min()) / np.ptp(blots) * 255


def seen(picture: NDArray, grown: float = 1.0, moved=(0.0, 0.0)) -> list[NDArray[np.float32]]:
    """The picture grown about the face's place, then moved by pixels."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    at = [(y - moved[1] - CENTER[1]) / grown + CENTER[1]]
    at.append((x - moved[0] - CENTER[0]) / grown + CENTER[0])
    return pyramid(map_coordinates(picture, at, order=1, mode="nearest").astype(np.float32))


@pytest.mark.parametrize("grown", [1.0, 1.2, 0.85])
def test_a_face_is_followed_as_it_moves_and_comes_nearer(picture, grown):
    found = follow(FIT, seen(picture), seen(picture, grown, (6.0, -4.0)))
    assert found is not None
    assert found.scale / FIT.scale == pytest.approx(grown, abs=0.01)
    assert found.shift_px == pytest.approx((166.0, 146.0), abs=0.5)
    assert found.pose.degrees == pytest.approx((0.0, 0.0, 0.0), abs=2.0)


@pytest.mark.parametrize("grown", [1.35, 0.75])
def test_no_head_grows_or_shrinks_by_a_third_between_two_frames(picture, grown):
    """The points fit well: the size alone tells that it is not the same face."""
    assert follow(FIT, seen(picture), seen(picture, grown)) is None
