"""Findings in words and in JSON, packages, and the estimate of memory as a formula."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fantasyid.doctor import findings, memory
from fantasyid.doctor.command import memory_finding
from fantasyid.doctor.findings import ERROR, LEVELS, NOTE, OK, WARNING, Finding
from fantasyid.doctor.memory import Run, VideoSize
from fantasyid.doctor.packages import installed, packages

FINDINGS = st.lists(
    st.builds(
        Finding,
        st.sampled_from(LEVELS),
        st.sampled_from(["file", "memory"]),
        st.text(max_size=20),
        st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
    ),
    max_size=6,
)
RELEASED = Run(dim=3072, text_dim=4096)
SIZES = st.builds(
    VideoSize,
    st.integers(1, 60).map(lambda n: 16 * n),
    st.integers(1, 60).map(lambda n: 16 * n),
    st.integers(0, 12).map(lambda n: 4 * n + 1),
)


@given(FINDINGS)
def test_json_holds_everything_and_the_exit_code_is_that_of_the_worst(found):
    content = json.loads(findings.as_json(found))
    assert [f["sentence"] for f in content["findings"]] == [f.sentence for f in found]
    assert content["exit_code"] == int(any(f.level == ERROR for f in found))
    assert content["level"] == findings.worst(found)


@given(FINDINGS)
def test_the_worst_stand_first(found):
    lines = findings.as_text(found).replace("\r", "").split("\n")
    assert lines[0] == findings.summary(found)
    if any(f.level == ERROR for f in found):
        assert lines[1].startswith(findings.MARKS[ERROR])


@pytest.mark.parametrize(
    ("versions", "words"),
    [
        ({"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.24"}, "overwrite each other"),
        ({"opencv-python": "5.0", "opencv-python-headless": "4.14"}, "overwrite each other"),
        ({"drtk": "100.0.0"}, "pip uninstall drtk"),
    ],
)
def test_packages_that_clash_are_named(versions, words):
    warnings = [f for f in packages(versions) if f.level == WARNING]
    assert len(warnings) == 1
    assert words in warnings[0].sentence
    assert all(name in warnings[0].sentence for name in versions)


def test_one_of_a_family_is_no_clash_and_serves():
    found = packages({"pytorch3d": "0.7.9", "onnxruntime-gpu": "1.24"})
    assert not [f for f in found if f.level in (WARNING, ERROR)]
    served = {f.facts["name"] for f in found if f.level == OK and "name" in f.facts}
    assert served == {"pytorch3d", "onnxruntime"}
    assert {f.level for f in packages({})} == {OK, NOTE}


def test_what_is_installed_is_told_without_importing_it():
    assert installed()["torch"].startswith(__import__("torch").__version__.split("+")[0])


@given(SIZES, st.booleans(), st.sampled_from([2, 4]))
def test_more_pixels_frames_or_branches_never_take_less(size, fused, number_bytes):
    run = replace(RELEASED, fused=fused, compute_bytes=number_bytes, batch=1)
    base = memory.block_bytes(size, run)
    wider = VideoSize(size.width + 16, size.height, size.length)
    longer = VideoSize(size.width, size.height, size.length + 4)
    both = replace(RELEASED, fused=fused, compute_bytes=number_bytes, batch=2)
    assert memory.block_bytes(wider, run) > base
    assert memory.block_bytes(longer, run) > base
    assert memory.block_bytes(size, both) == 2 * base


@given(SIZES, st.integers(10**8, 10**11))
def test_unfused_scores_fit_into_what_is_free(size, free):
    run = replace(RELEASED, fused=False, free_bytes=free)
    plenty = replace(RELEASED, fused=False)
    assert memory.block_bytes(size, run) <= memory.block_bytes(size, plenty)


def test_the_released_model_at_its_size():
    """By hand: 226 + 13 * 30 * 45 tokens, 3072 wide, two branches, two bytes: J is 218 MB."""
    joint = (226 + 13 * 30 * 45) * 3072 * 2 * 2
    video = 13 * 30 * 45 * 3072 * 2 * 2
    size = VideoSize(720, 480, 49)
    assert memory.block_bytes(size, RELEASED) == 17 * joint + 2 * video
    found = memory.estimate(size, RELEASED, weights=13_000_000_000)
    assert 17.0e9 < found.total < 17.5e9


@pytest.mark.parametrize(
    ("free", "level"), [(None, NOTE), (10**12, OK), (10**10, WARNING), (10**9, ERROR)]
)
def test_whether_it_fits(free, level):
    size = VideoSize(720, 480, 49)
    needed = memory.estimate(size, RELEASED, weights=13_000_000_000)
    finding = memory_finding(size, needed, free, "cuda:0")
    assert finding.level == level
    assert finding.facts["total"] == needed.total
    assert "17" in finding.sentence
