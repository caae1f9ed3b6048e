"""What curation decides without looking at a face: buckets, people, reasons, failures."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
import torch
from training.deadly_work import DeadlyWork

from fantasyid.training.config import Curate
from fantasyid.training.curate.engines import DIED, run_pool
from fantasyid.training.curate.report import write_report
from fantasyid.training.curate.run import Item
from fantasyid.training.curate.stages import choose_bucket, stretches
from fantasyid.training.curate.verdict import Reason, follow, judge
from fantasyid.training.manifest import decode_frames


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ((1920, 1080), (720, 480)),
        ((480, 900), (480, 720)),
        ((700, 480), (480, 480)),
        ((400, 400), None),
    ],
)
def test_the_bucket_is_the_nearest_that_fits(
    source: tuple[int, int], expected: tuple[int, int] | None
) -> None:
    assert choose_bucket(*source, ((720, 480), (480, 720), (480, 480), (960, 640))[:3]) == expected


def test_stretches_stay_inside_their_shot() -> None:
    rules = Curate(Path(), frames=49, fps=8, sizes=((720, 480),))
    found = {"width": 720, "height": 480}
    for seconds, count in ((6.0, 0), (6.05, 1), (6.125, 1), (12.1, 1), (12.25, 2), (60.0, 9)):
        shot = {"start_s": 1.5, "end_s": 1.5 + seconds}
        held = stretches(found, shot, rules)
        assert len(held) == count
        assert all(s.start_s + 48 / 8 < shot["end_s"] for s in held)


def face(x: float, score: float = 0.95, side: float = 50.0) -> dict:
    return {"box": [x, 0.0, x + side, side], "score": score}


def test_people_are_followed_by_place() -> None:
    one = [[face(i * 10)] for i in range(5)]
    assert [len(p) for p in follow(one, 0.6)] == [5]
    assert len(follow([*one, [face(300)]], 0.6)) == 2
    assert [len(p) for p in follow([[face(0), face(200)]] * 4, 0.6)] == [4, 4]
    assert len(follow([[face(0), face(200, 0.5)]] * 4, 0.6)) == 1
    assert follow([[], []], 0.6) == []


GOOD = {
    "face_share": 1.0, "people": 1, "sure_share": 1.0, "face_score": 0.95, "face_px": 90.0,
    "text_share": 0.0, "sharpness": 0.05, "frontal_deg": 3.0, "views": 6,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, None),
        ({"face_share": 0.5, "people": 3}, Reason.NO_FACE),
        ({"people": 2}, Reason.MANY_PEOPLE),
        ({"sure_share": 0.5}, Reason.UNSURE_FACE),
        ({"face_px": 20}, Reason.SMALL_FACE),
        ({"text_share": 0.01}, Reason.TEXT),
        ({"sharpness": 0.001}, Reason.BLURRED),
        ({"frontal_deg": 60.0}, Reason.PROFILE),
        ({"views": 1}, Reason.FEW_VIEWS),
    ],
)
def test_the_first_broken_rule_is_the_reason(changed: dict, reason: Reason | None) -> None:
    broken = judge({**GOOD, **changed}, Curate(Path()))
    assert (broken and broken[0]) is reason


def test_names_cannot_write_into_the_page(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    items = [Item("<script>x</script>.mp4", reason=Reason.UNREADABLE, detail="<b>")]
    write_report(items, Curate(tmp_path), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "<script>" not in page
    assert "&lt;b&gt;" in page


@pytest.mark.slow
def test_a_file_that_kills_its_process_is_the_only_one_left_out(tmp_path: Path) -> None:
    work = DeadlyWork(Curate(tmp_path, workers=2))
    paths = ["1", "deadly", "2", "3"]
    found = dict(run_pool(work, paths))  # type: ignore[arg-type]
    assert found == {"1": "seen", "2": "seen", "3": "seen", "deadly": DIED}


def test_telephones_are_turned(tmp_path: Path) -> None:
    """Pictures are as people see them, whatever the file's own sides are."""
    path = tmp_path / "turned.mp4"
    picture = torch.zeros(64, 96, 3, dtype=torch.uint8)
    picture[:16] = 255
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.set_display_rotation(90)
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture.numpy(), "rgb24")))
        container.mux(stream.encode(None))
    (frame,) = decode_frames(path, 0.0, 8, 1, None)
    with av.open(str(path)) as container:
        rotation = next(container.decode(video=0)).rotation
    assert frame.shape == (96, 64, 3)
    expected = torch.rot90(picture, round(rotation / 90))
    assert (frame.float() - expected).abs().mean() < 8
