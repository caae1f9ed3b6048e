"""Photos of a folder, one at a time: what can be read is, what cannot is named.

Pillow decodes; the header is looked at first, so that a picture that is too large is never
unpacked. Formats that start other programs or are no photos (EPS, PSD, ...) are not tried.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ..face.crop import BORDER_RGB

# A larger picture is refused by its header.
MOST_PIXELS = 64_000_000
# What lies under transparent pixels: the color around the released crops.
GROUND = tuple(round(255 * value) for value in BORDER_RGB)

# AVIF and HEIF only where this Pillow, or a plug-in of it, reads them.
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "TIFF", "GIF", "JPEG2000", "PPM", "AVIF", "HEIF")
_NAMED_AT_MOST = 5


@dataclass(frozen=True)
class Photo:
    """A photo as it is meant to be seen."""

    name: str  # of its file
    pixels: NDArray[np.uint8]  # `(H, W, 3)` uint8 RGB, turned as EXIF says
    # What there is to say of it, such as "first of several pictures"; "" for nothing.
    note: str = ""


@dataclass
class FolderReport:
    """What became of the files of a folder."""

    files: int = 0  # how many there are
    left_out: int = 0  # how many of them could not be used
    # The first few reasons; each one names its file.
    reasons: list[str] = field(default_factory=list)
    # The first few remarks on photos that could be used.
    notes: list[str] = field(default_factory=list)

    def leave_out(self, reason: str) -> None:
        """Count a file that cannot be used."""
        self.left_out += 1
        if len(self.reasons) < _NAMED_AT_MOST:
            self.reasons.append(reason)

    @property
    def words(self) -> str:
        """What to say of the folder, in sentences; "" when every file is a plain photo."""
        words = "".join(f" {note}." for note in self.notes)
        if self.left_out:
            more = self.left_out - len(self.reasons)
            rest = f"; and {more} more" if more else ""
            reasons = "; ".join(self.reasons)
            words += f" {self.left_out} of {self.files} files left out: {reasons}{rest}."
        return words.strip()


def natural_key(name: str) -> tuple[list[tuple[bool, int, str]], str]:
    """A sort key in which numbers count as numbers: photo2 comes before photo10."""
    parts = re.findall(r"([0-9]+)|([^0-9]+)", PurePath(name).stem.casefold())
    return [(not digits, int(digits or 0), letters) for digits, letters in parts], name


def list_files(folder: Path) -> list[Path]:
    """The files of a folder in natural order, without those of its subfolders and hidden ones.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is a file, cannot be looked into, or holds no file.
    """
    if not folder.exists():
        raise FileNotFoundError(f"the folder {folder} is not there")
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file, expected a folder of photos")
    try:
        inside = [p for p in folder.iterdir() if not p.name.startswith(".") and p.is_file()]
    except OSError as error:
        raise ValueError(f"the folder {folder} cannot be read: {_cause(error)}") from error
    if not inside:
        raise ValueError(f"the folder {folder} holds no files (subfolders are not searched)")
    return sorted(inside, key=lambda p: natural_key(p.name))


def read_photos(folder: Path, report: FolderReport) -> Iterator[Photo | None]:
    """Every file of a folder in turn, one in memory at a time; None for one that is left out.

    Args:
        report: Is filled on the way.

    Raises:
        FileNotFoundError, ValueError: See `list_files`; or no file at all could be used.
    """
    files = list_files(folder)
    report.files = len(files)
    for path in files:
        try:
            photo = read_photo(path)
        except ValueError as error:
            report.leave_out(str(error))
            yield None
            continue
        if photo.note and len(report.notes) < _NAMED_AT_MOST:
            report.notes.append(f"{photo.name}: {photo.note}")
        yield photo
    if report.left_out == report.files:
        raise ValueError(f"no photo in the folder {folder} can be used. {report.words}")


def read_photo(path: Path, most_pixels: int = MOST_PIXELS) -> Photo:
    """One photo.

    Any depth becomes 8 bit, gray, CMYK and palettes become RGB, transparent pixels are laid on
    `GROUND`, and the first picture of an animation is taken.

    Args:
        most_pixels: A larger picture is refused by its header, before it is unpacked.

    Raises:
        ValueError: It cannot be used; the message begins with the file's name.
    """
    Image.init()
    formats = [name for name in _FORMATS if name in Image.OPEN]
    try:
        # Pillow warns of what is damaged, and of large pictures, which are refused here.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=formats) as image:
                width, height = image.size
                if width * height > most_pixels:
                    raise Image.DecompressionBombError(f"{width}x{height}")
                several = image.format != "MPO" and getattr(image, "is_animated", False)
                image.load()
                pixels = np.array(_as_rgb(_upright(image)))
    except Image.UnidentifiedImageError as error:
        raise ValueError(f"{path.name}: {_no_image(path)}") from error
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"{path.name}: more than {most_pixels // 1_000_000} million pixels ({error}); "
            "make it smaller"
        ) from error
    except Exception as error:  # a decoder may raise anything when its bytes are damaged
        raise ValueError(f"{path.name}: damaged or unreadable ({_cause(error)})") from error
    return Photo(path.name, pixels, "the first of several pictures is taken" if several else "")


def _as_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB on `GROUND`.

    Raises:
        ValueError: The values have no known range.
    """
    if image.mode.startswith("I"):  # 16 bit, which older Pillows give as 32 bit
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise ValueError("its gray values have more than 16 bit")
        return Image.fromarray((values // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("its gray values are fractions, which is no photo")
    if not image.has_transparency_data:
        return image.convert("RGB")
    ground = Image.new("RGBA", image.size, (*GROUND, 255))
    return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    """Turned as EXIF says; as it is where EXIF is damaged."""
    try:
        return ImageOps.exif_transpose(image)
    except (SyntaxError, ValueError, TypeError, KeyError, OSError, OverflowError):
        return image


def _no_image(path: Path) -> str:
    """Why a file was not recognized."""
    try:
        if path.stat().st_size == 0:
            return "the file is empty"
    except OSError as error:
        return f"damaged or unreadable ({_cause(error)})"
    return "not an image, or in a format that is not read here"


def _cause(error: Exception) -> str:
    """The first line of an error, without the path that is named already."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.split("\n")[0][:120] or type(error).__name__
