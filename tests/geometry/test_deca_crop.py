"""The square that DECA reads around a face."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fantasyid.geometry.deca_crop import face_square


def grid(height: int, width: int) -> torch.Tensor:
    """A photo whose colours say where a pixel lies; blue is 1 inside."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows / 1000, columns / 1000, torch.ones_like(rows)], dim=-1)[None]


def test_it_is_a_quarter_larger_than_the_box_and_a_little_lower():
    square = face_square(grid(400, 500), (200.0, 100.0, 280.0, 220.0))
    assert square.shape == (1, 125, 125, 3)
    centre = square[0, 62, 62] * 1000
    assert centre[1] == pytest.approx(240, abs=1.01)
    assert centre[0] == pytest.approx(160 + 12, abs=1.01)
    assert (square[..., 2] == 1).all()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(x=st.floats(100, 140), y=st.floats(100, 140), w=st.floats(20, 80), h=st.floats(20, 80))
def test_it_lies_where_deca_puts_it(x, y, w, h):
    """The published rule for a detector's box, corner by corner."""
    left, top, right, bottom = x, y, x + w, y + h
    old_size = (right - left + bottom - top) / 2
    centre_x = right - (right - left) / 2
    centre_y = bottom - (bottom - top) / 2 + old_size * 0.12
    size = int(old_size * 1.25)
    square = face_square(grid(400, 400), (left, top, right, bottom))
    assert square.shape[1:3] == (size, size)
    first = square[0, 0, 0] * 1000
    assert float(first[1]) == pytest.approx(centre_x - size / 2, abs=0.51)
    assert float(first[0]) == pytest.approx(centre_y - size / 2, abs=0.51)


def test_beyond_the_photo_it_is_black():
    photo = grid(100, 120)
    square = face_square(photo, (-20.0, -20.0, 60.0, 60.0))
    assert square.shape == (1, 100, 100, 3)
    inside = square[0, :, :, 2] == 1
    assert inside.any()
    assert not inside[0].any()
    assert not inside[:, 0].any()
    assert not square[0][~inside].any()
    assert torch.equal(square[0, inside.any(1)][:, inside.any(0)][0, 0], photo[0, 0, 0])


def test_wrong_boxes_are_named():
    photo = grid(50, 50)
    for box in ((10, 10, 10, 20), (20, 10, 10, 20), (0, 0, float("nan"), 5), (0, 0, 1e9, 1e9)):
        with pytest.raises(ValueError, match="is not x0 < x1"):
            face_square(photo, box)
    with pytest.raises(ValueError, match="lies outside the photo of 50x50"):
        face_square(photo, (200, 200, 220, 220))
    with pytest.raises(ValueError, match=r"expected a photo \(1, H, W, 3\)"):
        face_square(photo[0], (0, 0, 10, 10))
