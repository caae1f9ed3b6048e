"""Reads PLY files: text or binary of either byte order, any properties, lists anywhere."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

HEADER_LIMIT = 1 << 16
TEXT_BLOCK = 1 << 16
BYTE_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">"}
NUMBER_TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
CORNER_NAMES = ("vertex_indices", "vertex_index")


@dataclass(frozen=True)
class Property:
    """One property: a number, or with `count_type` a list of numbers."""

    name: str
    number_type: str
    count_type: str | None = None


@dataclass(frozen=True)
class Element:
    """A table of the file: so many rows of these properties."""

    name: str
    num_rows: int
    properties: tuple[Property, ...]


class BinaryNumbers:
    """Takes numbers from the body of a binary file."""

    def __init__(self, body: memoryview, byte_order: str) -> None:
        self.body = body
        self.byte_order = byte_order
        self.position = 0

    def table(self, types: list[str], num_rows: int) -> list[np.ndarray]:
        """The next `num_rows` rows of fixed columns, one array per column."""
        row = np.dtype([(str(i), self.byte_order + t) for i, t in enumerate(types)])
        end = self.position + row.itemsize * num_rows
        if end > len(self.body):
            raise EOFError
        rows = np.frombuffer(self.body[self.position : end], row)
        self.position = end
        return [rows[str(i)] for i in range(len(types))]


class TextNumbers:
    """Takes numbers from the body of a text file."""

    def __init__(self, body: memoryview) -> None:
        self.numbers = _parse_text(body)
        self.position = 0

    def table(self, types: list[str], num_rows: int) -> list[np.ndarray]:
        """The next `num_rows` rows of fixed columns, one array per column."""
        end = self.position + len(types) * num_rows
        if end > len(self.numbers):
            raise EOFError
        rows = self.numbers[self.position : end].reshape(num_rows, len(types))
        self.position = end
        return [rows[:, i] for i in range(len(types))]


def _parse_text(body: memoryview) -> np.ndarray:
    """All numbers of a text, block by block so that words never outweigh the file."""
    numbers, rest = array("d"), b""
    for start in range(0, len(body), TEXT_BLOCK):
        block = rest + bytes(body[start : start + TEXT_BLOCK])
        words = block.split()
        rest = b""
        if words and not block[-1:].isspace() and start + TEXT_BLOCK < len(body):
            rest = words.pop()
        numbers.extend(map(float, words))
    return np.frombuffer(numbers, np.float64)


def parse_ply(content: bytes, source: str, *, corners: bool) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and, if `corners`, triangles of a PLY file.

    Args:
        content: The whole file.
        source: Names the file in errors.
        corners: Read the faces too; polygons are cut into fans.

    Returns:
        `(V, 3)` float32 in file order and `(T, 3)` int64, empty without faces.

    Raises:
        ValueError: The file is cut short, has no vertices, or is malformed.
    """
    elements, form, body_start = _parse_header(content, source)
    body = memoryview(content)[body_start:]
    vertices: np.ndarray | None = None
    triangles = np.empty((0, 3), np.int64)
    wanted = {"vertex", "face"} if corners else {"vertex"}
    try:
        numbers = TextNumbers(body) if form == "ascii" else BinaryNumbers(body, BYTE_ORDERS[form])
        for element in elements:
            if not wanted:
                break
            wanted.discard(element.name)
            columns, corner_rows = _read_element(element, numbers)
            if element.name == "vertex":
                vertices = _points(columns)
            elif element.name == "face":
                triangles = corner_rows
    except EOFError:
        raise ValueError(
            f"{source}: the file ends before its last number; it is cut short"
        ) from None
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{source}: {error}") from error
    except KeyError as error:
        raise ValueError(f"{source}: the vertices have no number {error}") from error
    if vertices is None:
        raise ValueError(f"{source}: a PLY file without vertices")
    if triangles.size and not 0 <= triangles.min() <= triangles.max() < len(vertices):
        raise ValueError(f"{source}: a face names a vertex outside 0..{len(vertices) - 1}")
    return vertices, triangles


def _points(columns: dict[str, np.ndarray]) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.stack([columns[axis] for axis in "xyz"], axis=1).astype(np.float32)


def _parse_header(content: bytes, source: str) -> tuple[list[Element], str, int]:
    end = content.find(b"\nend_header", 0, HEADER_LIMIT)
    line_end = content.find(b"\n", end + 1)
    if end < 0 or line_end < 0:
        raise ValueError(f"{source}: a PLY file whose header does not end; it is cut short")
    form = ""
    elements: list[Element] = []
    for line in content[:end].decode("latin-1").splitlines()[1:]:
        words = line.split()
        try:
            if words[:1] == ["format"]:
                form = words[1]
            elif words[:1] == ["element"]:
                elements.append(Element(words[1], _size(words[2]), ()))
            elif words[:1] == ["property"]:
                last = elements.pop()
                more = (*last.properties, _property(words))
                elements.append(Element(last.name, last.num_rows, more))
        except (IndexError, KeyError, ValueError):
            raise ValueError(f"{source}: the header line {line[:80]!r} is not understood") from None
    if form != "ascii" and form not in BYTE_ORDERS:
        raise ValueError(f"{source}: the PLY format {form[:40]!r} is unknown")
    return elements, form, line_end + 1


def _size(word: str) -> int:
    size = int(word)
    if size < 0:
        raise ValueError
    return size


def _property(words: list[str]) -> Property:
    if words[1] == "list":
        return Property(words[4], NUMBER_TYPES[words[3]], NUMBER_TYPES[words[2]])
    return Property(words[2], NUMBER_TYPES[words[1]])


def _read_element(
    element: Element, numbers: BinaryNumbers | TextNumbers
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The columns of an element without lists, or the triangles of one with lists."""
    none = np.empty((0, 3), np.int64)
    if not element.properties:
        return {}, none
    lists = [p for p in element.properties if p.count_type]
    if not lists:
        columns = numbers.table([p.number_type for p in element.properties], element.num_rows)
        named = zip(element.properties, columns, strict=True)
        return {p.name: column for p, column in named}, none
    triangles = _read_triangles(element, numbers) if len(lists) == 1 else None
    return {}, _read_lists(element, numbers) if triangles is None else triangles


def _read_triangles(element: Element, numbers: BinaryNumbers | TextNumbers) -> np.ndarray | None:
    """All rows at once if every list has three entries, else nothing is taken."""
    start = numbers.position
    types: list[str] = []
    first = 0
    for prop in element.properties:
        if prop.count_type:
            first = len(types)
            types.extend([prop.count_type, *3 * [prop.number_type]])
        else:
            types.append(prop.number_type)
    name = next(p.name for p in element.properties if p.count_type)
    try:
        columns = numbers.table(types, element.num_rows)
    except EOFError:
        columns = []
    if name in CORNER_NAMES and columns and (columns[first] == 3).all():
        return np.stack([_whole(c) for c in columns[first + 1 : first + 4]], axis=1)
    numbers.position = start
    return None


def _read_lists(element: Element, numbers: BinaryNumbers | TextNumbers) -> np.ndarray:
    """Row by row, where lists have different lengths; polygons become fans."""
    triangles = array("q")
    for _ in range(element.num_rows):
        for prop in element.properties:
            if prop.count_type is None:
                numbers.table([prop.number_type], 1)
                continue
            count = int(_whole(numbers.table([prop.count_type], 1)[0])[0])
            if count < 0:
                raise ValueError(f"a list of {element.name} has {count} entries")
            corners = numbers.table([prop.number_type], count)[0]
            if prop.name in CORNER_NAMES and count >= 3:
                triangles.extend(fan(_whole(corners).tolist()))
    return np.array(triangles, np.int64).reshape(-1, 3)


def fan(corners: list[int]) -> list[int]:
    """A polygon of `n` corners as `n - 2` triangles around its first corner, one after another."""
    return [i for b, c in pairwise(corners[1:]) for i in (corners[0], b, c)]


def _whole(numbers: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        whole = numbers.astype(np.int64)
    if not (whole == numbers).all():
        raise ValueError("a face has corners that are not whole numbers")
    return whole
