"""Ten thousand damaged identity files: each is the right identity or an error that names it."""

from __future__ import annotations

import copy
import json
import random
from dataclasses import replace
from typing import Any

import pytest
from damage import mutated
from identities import assert_same, make_identity, write_identity

from fantasyid.weights.identity_file import is_identity_file, read_identity

pytestmark = pytest.mark.slow

FULL = make_identity()
SMALL = replace(FULL, geometry=None, thumbnail=None)
ODD_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**63, 10**400, 1e308, "", "x", "F16", "\ud800", "ß" * 300, [], {},
    [1, 36], [1, 36, -8], [0, 2**62], [[]], [None] * 40, {"dtype": "F32"}, "version",
)  # fmt: skip


def change_header(content: bytes, dice: random.Random) -> bytes:
    """Header entries and metadata replaced, renamed, removed, added; the length fits again."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    for _ in range(dice.randint(1, 3)):
        tables = [header, *(v for v in header.values() if isinstance(v, dict))]
        table = dice.choice(tables)
        key = dice.choice(list(table) or ["new"])
        action = dice.randrange(4)
        if action == 0:
            table[key] = copy.deepcopy(dice.choice(ODD_VALUES))
        elif action == 1:
            table.pop(key, None)
        elif action == 2:
            table[key + "x"] = table.pop(key, None)
        else:
            other = dice.choice(list(table) or ["new"])
            table[key], table[other] = table.get(other), table.get(key)
    text = json.dumps(header).encode()
    length = len(text) + dice.choice((0, 0, 0, -1, 1, 2**40))
    return length.to_bytes(8, "little") + text + content[end:]


@pytest.mark.parametrize(("identity", "count"), [(SMALL, 4000), (FULL, 1000)])
@pytest.mark.parametrize("change", [mutated, change_header])
def test_10000_mutated_files_are_the_identity_or_an_error_that_names_them(
    tmp_path, identity, count, change
):
    path = tmp_path / "damaged.safetensors"
    write_identity(path, identity)
    content, dice = path.read_bytes(), random.Random(change.__name__)
    refused: list[str] = []
    for _ in range(count):
        damaged = change(content, dice)
        path.write_bytes(damaged)
        is_identity_file(path)
        try:
            found = read_identity(path)
        except ValueError as error:
            refused.append(str(error))
        else:
            assert_same(found, identity)
    # A mutation may undo another one, or change a blank.
    assert len(refused) > 0.8 * count
    assert [words for words in refused if str(path) not in words or len(words) > 1000] == []
