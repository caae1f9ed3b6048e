"""Photos of a folder: what can be read is, what cannot is named and does no harm."""

from __future__ import annotations

import gc
import io
import os
import struct
import sys
import weakref
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fantasyid.views.photos import (
    GROUND,
    MOST_PIXELS,
    FolderReport,
    list_files,
    natural_key,
    read_photo,
    read_photos,
)

pytestmark = pytest.mark.slow

# Left half and right half; wide, so that a turn shows.
RED, BLUE = (200, 30, 20), (20, 40, 210)


def halves(mode: str = "RGB") -> Image.Image:
    """12 x 6 pixels, red on the left."""
    picture = Image.new("RGB", (12, 6), BLUE)
    picture.paste(RED, (0, 0, 6, 6))
    return picture.quantize(16) if mode == "P" else picture.convert(mode)


def as_bytes(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


BEST = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}
KINDS = "RGB.png RGB.jpg RGB.webp RGB.bmp RGB.tif RGB.ppm RGBA.png P.png P.gif CMYK.jpg CMYK.tif"


@pytest.mark.parametrize("name", [*KINDS.split(), "YCbCr.jpg"])
def test_every_kind_of_photo_keeps_its_colors(tmp_path: Path, name: str) -> None:
    mode, kind = name.split(".")
    halves(mode).save(tmp_path / name, **BEST.get(kind, {}))
    photo = read_photo(tmp_path / name)
    assert photo.name == name
    assert photo.note == ""
    assert photo.pixels.shape == (6, 12, 3)
    assert photo.pixels.dtype == np.uint8
    assert np.abs(photo.pixels[:, 1].astype(int) - RED).max() <= 8
    assert np.abs(photo.pixels[:, -2].astype(int) - BLUE).max() <= 8


@pytest.mark.parametrize("mode", ["L", "1", "LA", "I;16"])
def test_gray_of_any_depth_is_spread(tmp_path: Path, mode: str) -> None:
    ramp = np.linspace(0, 255, 256).round().astype(np.uint8)[None].repeat(4, 0)
    if mode == "I;16":
        picture = Image.fromarray(ramp.astype(np.uint16) * 257)
    else:
        picture = Image.fromarray(ramp).convert(mode)
    picture.save(tmp_path / "gray.png")
    pixels = read_photo(tmp_path / "gray.png").pixels
    assert (pixels[..., :1] == pixels).all()
    if mode == "1":
        assert set(pixels.ravel().tolist()) == {0, 255}
    else:
        assert (pixels[..., 0] == ramp).all()


def rgb_png(width: int, height: int, bits: int, rows: bytes) -> bytes:
    """A PNG as Pillow would not write it: any depth, and rows that its header need not fit."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    header = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_16_bit_colors_are_reduced_to_8(tmp_path: Path) -> None:
    row = b"\0" + struct.pack(">HHH", 0x80FF, 0, 0xFFFF)
    (tmp_path / "deep.png").write_bytes(rgb_png(1, 1, 16, row))
    assert read_photo(tmp_path / "deep.png").pixels.tolist() == [[[0x80, 0, 0xFF]]]


@pytest.mark.parametrize("kind", ["png", "webp", "palette"])
def test_transparent_pixels_show_the_ground(tmp_path: Path, kind: str) -> None:
    picture = halves("RGBA")
    picture.putalpha(Image.fromarray(np.array([[255] * 6 + [0] * 3 + [128] * 3] * 6, np.uint8)))
    if kind == "palette":
        clear = Image.new("P", (2, 1))
        clear.putpalette([*RED, 0, 255, 0])
        clear.putdata([0, 1])
        clear.save(tmp_path / "a.png", transparency=1)
        assert read_photo(tmp_path / "a.png").pixels.tolist() == [[list(RED), list(GROUND)]]
        return
    path = tmp_path / f"a.{kind}"
    picture.save(path, lossless=True)  # what PNG is anyway
    pixels = read_photo(path).pixels.astype(int)
    assert np.abs(pixels[0, 0] - RED).max() <= 1
    assert pixels[0, 7].tolist() == list(GROUND)
    half = (np.array(BLUE) + GROUND) / 2
    assert np.abs(pixels[0, 10] - half).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_as_exif_says(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    halves().save(tmp_path / "a.png", exif=exif)
    pixels = read_photo(tmp_path / "a.png").pixels
    assert pixels.shape == ((6, 12, 3) if orientation < 5 else (12, 6, 3))
    corners = {1: "top left", 2: "right", 3: "right", 4: "left", 5: "top", 6: "top"}
    corners |= {7: "bottom", 8: "bottom"}
    red = (pixels[..., 0] > 100).nonzero()
    where = {
        "left": red[1].max() < 6,
        "right": red[1].min() >= 6,
        "top": red[0].max() < 6,
        "bottom": red[0].min() >= 6,
    }
    assert where[corners[orientation].split()[-1]]


def test_damaged_exif_leaves_the_photo_as_it_is(tmp_path: Path) -> None:
    halves().save(tmp_path / "a.png", exif=b"Exif\0\0nonsense and no table")
    assert read_photo(tmp_path / "a.png").pixels.shape == (6, 12, 3)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_pictures_the_first_is_taken_and_said(tmp_path: Path, kind: str) -> None:
    first, second = Image.new("RGB", (8, 8), RED), Image.new("RGB", (8, 8), BLUE)
    first.save(tmp_path / "a", kind, save_all=True, append_images=[second])
    photo = read_photo(tmp_path / "a")
    assert np.abs(photo.pixels[0, 0].astype(int) - RED).max() <= 8
    assert photo.note == "the first of several pictures is taken"


@pytest.mark.parametrize("size", [(8001, 8000), (12000, 9000), (60000, 60000), (2**31 - 1, 1)])
def test_a_huge_picture_is_refused_by_its_header(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "huge.png").write_bytes(rgb_png(*size, 8, b"\0" * 9))
    with pytest.raises(ValueError, match=r"huge\.png: more than 64 million pixels"):
        read_photo(tmp_path / "huge.png")


def test_the_limit_itself_is_allowed(tmp_path: Path) -> None:
    halves().save(tmp_path / "a.png")
    assert read_photo(tmp_path / "a.png", most_pixels=72).pixels.shape == (6, 12, 3)
    with pytest.raises(ValueError, match="more than 0 million pixels"):
        read_photo(tmp_path / "a.png", most_pixels=71)
    assert MOST_PIXELS == 64_000_000


BAD = {
    "empty.jpg": (b"", "the file is empty"),
    "words.jpg": (b"This is no photo.", "not an image, or in a format that is not read here"),
    "code.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    "short.png": (as_bytes(halves(), "PNG")[:60], "damaged or unreadable"),
    "short.jpg": (as_bytes(halves().resize((300, 200)), "JPEG")[:900], "damaged or unreadable"),
    "float.tif": (as_bytes(Image.new("F", (4, 4)), "TIFF"), "gray values are fractions"),
    "deep.tif": (as_bytes(Image.new("I", (4, 4), 70000), "TIFF"), "more than 16 bit"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_cannot_be_used_is_named_with_the_reason(tmp_path: Path, name: str) -> None:
    content, words = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        read_photo(tmp_path / name)
    assert str(caught.value).startswith(f"{name}: ")
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_named(tmp_path: Path) -> None:
    halves().save(tmp_path / "mine.png")
    (tmp_path / "mine.png").chmod(0)
    with pytest.raises(ValueError, match=r"mine\.png: damaged or unreadable \(Permission denied\)"):
        read_photo(tmp_path / "mine.png")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("photos")


WHOLE = {
    "png": as_bytes(halves().resize((40, 30)), "PNG"),
    "jpg": as_bytes(halves().resize((40, 30)), "JPEG", exif=Image.Exif()),
    "gif": as_bytes(halves().resize((40, 30)), "GIF"),
    "tif": as_bytes(halves().resize((40, 30)), "TIFF", compression="tiff_lzw"),
    "webp": as_bytes(halves().resize((40, 30)), "WEBP"),
}
CHANGES = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=12)


@settings(max_examples=200)
@given(kind=st.sampled_from(sorted(WHOLE)), changes=CHANGES, cut=st.integers(0, 3000))
def test_a_changed_file_is_read_or_refused_by_name(
    scratch: Path, kind: str, changes: list[tuple[int, int]], cut: int
) -> None:
    content = bytearray(WHOLE[kind])
    for place, value in changes:
        content[place % len(content)] = value
    path = scratch / f"changed.{kind}"
    path.write_bytes(content[: cut or None])
    reason, photo = "", None
    try:
        photo = read_photo(path, most_pixels=1_000_000)
    except ValueError as error:
        reason = str(error)
    if photo is None:
        assert reason.startswith(f"{path.name}: ")
        assert "\n" not in reason
    else:
        height, width = photo.pixels.shape[:2]
        assert photo.pixels.shape == (height, width, 3)
        assert 0 < height * width <= 1_000_000


def test_numbers_in_names_count_as_numbers() -> None:
    names = ["a10.png", "B1.png", "a2.png", "a.png", "a02.png", "10.png", "9.png", "²3.png"]
    ordered = ["9.png", "10.png", "a.png", "a02.png", "a2.png", "a10.png", "B1.png", "²3.png"]
    assert sorted(names, key=natural_key) == ordered


@given(st.lists(st.text(max_size=12), max_size=8))
def test_every_name_has_its_place(names: list[str]) -> None:
    ordered, backwards = sorted(names, key=natural_key), names[::-1]
    backwards.sort(key=natural_key)
    assert ordered == backwards


def test_the_files_of_a_folder_are_listed(tmp_path: Path) -> None:
    for name in ("b2.png", "b10.png", ".hidden.png", "a.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "below").mkdir()
    assert [p.name for p in list_files(tmp_path)] == ["a.txt", "b2.png", "b10.png"]
    with pytest.raises(ValueError, match=r"below holds no files \(subfolders"):
        list_files(tmp_path / "below")
    with pytest.raises(FileNotFoundError, match=r"the folder .*absent is not there"):
        list_files(tmp_path / "absent")
    with pytest.raises(ValueError, match=r"a\.txt is a file, expected a folder"):
        list_files(tmp_path / "a.txt")


def test_bad_files_are_left_out_and_the_first_few_are_named(tmp_path: Path) -> None:
    for name, (content, _) in BAD.items():
        (tmp_path / name).write_bytes(content)
    halves().save(tmp_path / "good.png")
    Image.new("RGB", (4, 4)).save(
        tmp_path / "moving.gif", save_all=True, append_images=[Image.new("RGB", (4, 4), RED)]
    )
    report = FolderReport()
    names = [p.name for p in read_photos(tmp_path, report) if p is not None]
    assert names == ["good.png", "moving.gif"]
    assert (report.files, report.left_out, len(report.reasons)) == (9, 7, 5)
    assert "7 of 9 files left out: code.eps: not an image" in report.words
    assert report.words.endswith("; and 2 more.")
    assert report.words.startswith("moving.gif: the first of several pictures is taken.")


def test_a_folder_of_bad_files_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no photo")
    (tmp_path / "b.jpg").write_bytes(b"")
    photos = read_photos(tmp_path, FolderReport())
    with pytest.raises(ValueError, match="no photo in the folder") as caught:
        list(photos)
    for part in (str(tmp_path), "2 of 2 files left out", "a.jpg: not an", "b.jpg: the file is"):
        assert part in str(caught.value)


def test_one_photo_is_in_memory_at_a_time(tmp_path: Path) -> None:
    for number in range(6):
        halves().save(tmp_path / f"{number}.png")
    seen: list[weakref.ref] = []
    for photo in read_photos(tmp_path, FolderReport()):
        assert photo is not None
        seen.append(weakref.ref(photo.pixels))
        gc.collect()
        assert sum(held() is not None for held in seen) == 1
    assert len(seen) == 6
