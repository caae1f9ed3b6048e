"""Reads PLY files: text or binary of either byte order, any properties, lists anywhere."""

from __future__ import annotations

from array import array
from typing import NamedTuple

import numpy as np

HEADER_LIMIT = 1 << 16
TEXT_BLOCK = 1 << 16
BYTE_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}
NUMBER_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4",
    "float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2",
    "int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8",
}  # fmt: skip
MAX_STEPS = 400_000  # lists and the numbers beside them, taken one by one; a head has 10,000
CORNER_NAMES = ("vertex_indices", "vertex_index")
CUT_SHORT = "the file ends before its last number; it is cut short"


class Property(NamedTuple):
    """One property: a number, or a list of numbers where there is a type for its length."""

    name: str
    number: np.dtype
    count: np.dtype | None


class Element(NamedTuple):
    """A table of the file: so many rows of these properties."""

    name: str
    num_rows: int
    properties: list[Property]

    @property
    def has_lists(self) -> bool:
        """Whether its rows are of different lengths."""
        return any(p.count for p in self.properties)


def parse_ply(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and triangles of a PLY file; polygons are cut into fans.

    Returns:
        `(V, 3)` float32 in file order and `(T, 3)` int32, empty without faces.

    Raises:
        ValueError: The file is cut short or malformed.
    """
    form, elements, start = _parse_header(content)
    steps = sum(e.num_rows * len(e.properties) for e in elements if e.has_lists)
    if steps > MAX_STEPS:
        raise ValueError(f"{steps} lists and numbers of faces: no head has so many")
    body, place = memoryview(content)[start:], 0
    if form == "ascii":
        body = memoryview(_parse_text(body)).cast("B")
    vertices = triangles = np.empty((0, 3), np.int32)
    for element in elements:
        columns: dict[str, np.ndarray] = {}
        if element.has_lists:
            found, place = _read_lists(element, body, place)
            triangles = found if element.name == "face" else triangles
        else:
            columns, place = _read_columns(element, body, place)
        if element.name == "vertex":
            missing = [axis for axis in "xyz" if axis not in columns]
            if missing:
                raise ValueError(f"the vertices have no number {missing[0]!r}")
            with np.errstate(over="ignore"):
                vertices = np.stack(
                    [columns[axis] for axis in "xyz"], axis=1, dtype=np.float32, casting="unsafe"
                )
        if len(vertices) and len(triangles):
            break
    return vertices, triangles


def _parse_header(content: bytes) -> tuple[str, list[Element], int]:
    end = content.find(b"\nend_header", 0, HEADER_LIMIT)
    line_end = content.find(b"\n", end + 1)
    if end < 0 or line_end < 0:
        raise ValueError("a PLY file whose header does not end; it is cut short")
    lines = content[:end].decode("latin-1").splitlines()[1:]
    formats = [line.split()[1] for line in lines if line.startswith("format ") and line[7:].strip()]
    form = formats[0] if formats else ""
    if form not in BYTE_ORDERS:
        raise ValueError(f"the PLY format {form[:40]!r} is unknown")

    def dtype(name: str) -> np.dtype:  # a text is read as doubles
        kind = NUMBER_TYPES[name]
        return np.dtype("f8" if form == "ascii" else BYTE_ORDERS[form] + kind)

    elements: list[Element] = []
    for line in lines:
        try:
            match line.split():
                case ["element", name, count, *_] if int(count) >= 0:
                    elements.append(Element(name, int(count), []))
                case ["property", "list", count, number, name, *_]:
                    prop = Property(name, dtype(number), dtype(count))
                    elements[-1].properties.append(prop)
                case ["property", number, name, *_]:
                    elements[-1].properties.append(Property(name, dtype(number), None))
                case ["element" | "property", *_]:
                    raise ValueError
        except (IndexError, KeyError, ValueError):
            raise ValueError(f"the header line {line[:80]!r} is not understood") from None
    return form, elements, line_end + 1


def _parse_text(body: memoryview) -> array[float]:
    """All numbers of a text, block by block so that words never outweigh the file."""
    numbers, rest = array("d"), b""
    for start in range(0, len(body), TEXT_BLOCK):
        block = rest + bytes(body[start : start + TEXT_BLOCK])
        words = block.split()
        rest = b""
        if words and not block[-1:].isspace() and start + TEXT_BLOCK < len(body):
            rest = words.pop()
        numbers.extend(map(float, words))
    return numbers


def _at_each_byte(body: memoryview, dtype: np.dtype) -> np.ndarray:
    """The number that would begin at each byte, without a copy."""
    return np.ndarray(max(len(body) - dtype.itemsize + 1, 0), dtype, body, 0, 1)


def _read_columns(
    element: Element, body: memoryview, place: int
) -> tuple[dict[str, np.ndarray], int]:
    """The columns of an element without lists, and the place behind it."""
    row = sum(p.number.itemsize for p in element.properties)
    end = place + element.num_rows * row
    if end > len(body):
        raise ValueError(CUT_SHORT)
    columns = {}
    for prop in element.properties:
        columns[prop.name] = _at_each_byte(body, prop.number)[place:end:row]
        place += prop.number.itemsize
    return columns, end


def _read_lists(element: Element, body: memoryview, place: int) -> tuple[np.ndarray, int]:
    """The triangles of an element with lists, row by row, and the place behind it."""
    starts, counts = array("i"), array("i")  # no file is longer than they reach
    for _ in range(element.num_rows):
        for prop in element.properties:
            count = 1
            if prop.count:
                count = _list_length(element, body, place, prop.count)
                place += prop.count.itemsize
                if prop.name in CORNER_NAMES and count >= 3:
                    starts.append(place)
                    counts.append(count)
            place += count * prop.number.itemsize
            if place > len(body):
                raise ValueError(CUT_SHORT)
    corners = next((p.number for p in element.properties if p.name in CORNER_NAMES), None)
    if corners is None or not starts:
        return np.empty((0, 3), np.int32), place
    numbers = _at_each_byte(body, corners)
    found = np.frombuffer(starts, np.int32), np.frombuffer(counts, np.int32)
    return fans(numbers, *found, corners.itemsize), place


def _list_length(element: Element, body: memoryview, place: int, dtype: np.dtype) -> int:
    if place + dtype.itemsize > len(body):
        raise ValueError(CUT_SHORT)
    found = np.frombuffer(body, dtype, 1, place)[0]
    if not 0 <= found <= len(body) or found != int(found):
        raise ValueError(f"a list of {element.name} has {found:g} entries")
    return int(found)


def fans(numbers: np.ndarray, starts: np.ndarray, counts: np.ndarray, size: int = 1) -> np.ndarray:
    """Polygons as triangles around their first corners.

    Args:
        numbers: The number at each place.
        starts: `(N,)` places of the first corners.
        counts: `(N,)` corners of each polygon, 3 or more.
        size: Places from a corner to the next.

    Returns:
        `(T, 3)` int32 in the order of the polygons.

    Raises:
        ValueError: A corner is no whole number.
    """
    triangles = counts - 2
    first = np.repeat(starts, triangles)
    second = np.arange(1, len(first) + 1, dtype=first.dtype)
    second -= np.repeat(np.cumsum(triangles, dtype=first.dtype) - triangles, triangles)
    second *= size
    second += first
    whole = np.empty((len(first), 3), np.int32)
    for column in range(3):
        corners = numbers[second if column else first]
        with np.errstate(invalid="ignore"):
            whole[:, column] = corners
        if not np.array_equal(whole[:, column], corners):
            raise ValueError("a face has corners that are not whole numbers")
        second += size * (column > 0)
    return whole
