"""Two conversions to one target at a time."""

from __future__ import annotations

import pytest
import torch

from fantasyid.weights.convert.sources import in_memory
from fantasyid.weights.convert.write import Plan, write_files


def test_two_conversions_at_a_time_do_not_mix(tmp_path):
    """The second refuses; and what changes under the first is seen by its check."""
    plan = Plan(tmp_path / "a.safetensors", in_memory({"a": torch.ones(3)}), {})

    def second(_step) -> None:
        with pytest.raises(FileExistsError, match="is being written by another conversion"):
            write_files([plan], overwrite=False, report=lambda _: None)

    write_files([plan], overwrite=False, report=second)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]

    other = Plan(tmp_path / "b.safetensors", in_memory({"a": torch.ones(3)}), {})

    def meddle(step) -> None:
        if step.words.startswith("writing"):
            content = other.part.read_bytes()
            other.part.write_bytes(content.replace(b'"pt"', b'"tp"'))

    with pytest.raises(ValueError, match="its header was changed"):
        write_files([other], overwrite=False, report=meddle)
    assert not other.path.exists()
