"""Damage to the bytes of a file, as tests do it."""

from __future__ import annotations

import random

ODD_BYTES = (
    *(b"\0" * 8, b"\xff" * 8, b"{", b"}", b'"', b"[" * 3000, b"1e400", b"NaN", b"\n", b","),
    *(b"-1", b"9999999999"),
)


def mutated(content: bytes, dice: random.Random, header: int = 1500) -> bytes:
    """One to six bytes changed, cut out, doubled, cut off, or replaced by something odd.

    Half of the time in the first `header` bytes, which are short and say everything.
    """
    data = bytearray(content)
    for _ in range(dice.randint(1, 6)):
        reach = min(len(data), header) if dice.random() < 0.5 else len(data)
        at = dice.randrange(max(reach, 1))
        action = dice.randrange(6)
        if action == 0 and data:
            data[at] ^= 1 << dice.randrange(8)
        elif action == 1 and data:
            data[at] = dice.randrange(256)
        elif action == 2:
            del data[at : at + dice.randint(1, 40)]
        elif action == 3:
            data[at:at] = data[at : at + dice.randint(1, 200)]
        elif action == 4:
            odd = dice.choice(ODD_BYTES)
            data[at : at + len(odd)] = odd
        else:
            del data[max(at, 1) :]
    return bytes(data)
