"""Collect Views on the real host: folders of photos, bad files, and a missing face downstream."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch
from host_client import changed
from host_graph import align, face_tokens, face_vertices, fuse
from PIL import Image

pytestmark = pytest.mark.slow

COLLECT = {"detector": "cascade", "views": 4, "choose": "largest", "no_face": "stop"}
GO_ON = {"no_face": "continue without identity"}


@pytest.fixture(scope="module")
def astronaut():
    data = pytest.importorskip("skimage.data", reason="scikit-image is absent")
    return Image.fromarray(data.astronaut())


@pytest.fixture(scope="module")
def album(astronaut, host_base):
    """A folder below the input folder: three photos, one without a face, three bad files."""
    folder = host_base / "input" / "my photos"
    folder.mkdir()
    astronaut.save(folder / "photo10.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by the camera
    astronaut.crop((60, 0, 500, 400)).transpose(Image.Transpose.ROTATE_90).save(
        folder / "photo9.jpg", quality=98, exif=exif
    )
    clear = astronaut.crop((40, 0, 512, 512)).convert("RGBA")
    clear.putalpha(Image.new("L", clear.size, 255))
    clear.save(folder / "photo1.webp", quality=98)
    Image.new("L", (300, 200), 120).save(folder / "wall.png")
    (folder / "cut.png").write_bytes((folder / "photo10.png").read_bytes()[:5000])
    (folder / "list.txt").write_text("photo 1: me")
    (folder / "zero.jpg").touch()
    return folder


@pytest.mark.usefixtures("album")
def test_the_photos_of_a_folder_below_the_input_folder(host):
    face, crops, sheet, report = host.run(
        "FantasyIDMultiView", folder="my photos", least_face=64, **COLLECT
    )
    assert crops.shape == (3, 512, 512, 3)
    assert sheet.ndim == 4
    assert face.empty_reason == ""
    assert face.detector == "views of photos"
    assert any(torch.equal(face.images[0], crop) for crop in crops)
    assert "4 photos, a face in 3." in report
    assert "3 of 7 files left out: cut.png: damaged or unreadable" in report
    assert "list.txt: not an image" in report
    assert "zero.jpg: the file is empty" in report
    assert "Nothing checked that all show one person" in report
    for name in ("photo1.webp", "photo9.jpg", "photo10.png"):
        assert f"{name}: angles unknown" in report
    # The turned photo was turned back: all crops show the same face upright.
    assert (crops - crops[:1]).abs().mean((1, 2, 3)).max() < 0.1


@pytest.mark.parametrize("typed", ["{}", '"{}"', " {} \n"])
def test_a_whole_path_is_taken_as_typed(host, astronaut, tmp_path, typed):
    astronaut.save(tmp_path / "a.png")
    path = typed.format(tmp_path)
    _, crops, _, _ = host.run(
        "FantasyIDMultiView", folder=path, least_face=64, **(COLLECT | {"views": 1})
    )
    assert crops.shape == (1, 512, 512, 3)


def test_a_folder_that_is_not_there_says_where_we_looked(host, album, host_base):
    for typed in ("absent", "../absent", str(album / "absent")):
        with pytest.raises(FileNotFoundError, match="is not there") as caught:
            host.run("FantasyIDMultiView", folder=typed, **COLLECT)
        assert f"Looked at: {host_base / 'input' / typed}" in str(caught.value)
    with pytest.raises(FileNotFoundError, match="is a file, not a folder"):
        host.run("FantasyIDMultiView", folder="my photos/list.txt", **COLLECT)


@pytest.mark.usefixtures("album")
def test_a_clip_or_a_folder_but_not_both_and_not_neither(host):
    with pytest.raises(ValueError, match="nothing to look at: connect a clip"):
        host.run("FantasyIDMultiView", **COLLECT)
    clip = torch.zeros(1, 64, 64, 3)
    with pytest.raises(ValueError, match="both a clip and the folder"):
        host.run("FantasyIDMultiView", clip=clip, folder="my photos", **COLLECT)


@pytest.mark.parametrize("policy", ["stop", "continue without identity"])
def test_a_folder_of_nothing_but_bad_files_is_an_error(host, tmp_path, policy):
    with pytest.raises(ValueError, match="holds no files"):
        host.run("FantasyIDMultiView", folder=str(tmp_path), **(COLLECT | {"no_face": policy}))
    (tmp_path / "a.jpg").write_bytes(b"no photo")
    with pytest.raises(ValueError, match=r"can be used\. 1 of 1 files left out: a\.jpg") as caught:
        host.run("FantasyIDMultiView", folder=str(tmp_path), **(COLLECT | {"no_face": policy}))
    assert str(tmp_path) in str(caught.value)


def test_a_changed_folder_is_read_again_and_a_wrong_one_is_refused_at_once(
    client, astronaut, album
):
    folder = album.parent / "changing"
    folder.mkdir()
    astronaut.save(folder / "a.png")
    graph = {
        "1": {
            "class_type": "FantasyIDMultiView",
            "inputs": COLLECT | {"folder": "changing", "least_face": 64},
        },
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 2]}},
    }
    first = client.finish(graph)
    assert "1 photos, a face in 1." in first.outputs["1"]["text"][0]
    assert "1" in client.run(graph).cached
    astronaut.crop((60, 0, 500, 400)).save(folder / "b.png")
    again = client.run(graph)
    assert "2 photos, a face in 2." in again.outputs["1"]["text"][0]
    wrong = client.run(changed(graph, "FantasyIDMultiView", folder="not there"))
    assert wrong.ending == "refused"
    assert f"Looked at: {Path(album.parent) / 'not there'}" in wrong.errors


@pytest.fixture(scope="module")
def clip(photo_image):
    """A head that looks around, 24 frames."""
    from turning_head import ASTRONAUT_POINTS, Portrait, turning

    portrait = Portrait(photo_image[0], ASTRONAUT_POINTS)
    frames = [portrait.render(p, 288, 512, 1.6, (256, 120)) for p in turning(24)]
    return torch.stack(frames)


@pytest.fixture(scope="module")
def collected(host, clip):
    return host.run("FantasyIDMultiView", clip=clip, **COLLECT)


def test_views_of_images(collected, clip):
    face, crops, sheet, report = collected
    assert crops.shape == (4, 512, 512, 3)
    assert sheet.ndim == 4
    assert "24 frames" in report
    assert report.count("yaw") == 4
    assert face.images.shape == (1, 512, 512, 3)
    assert any(torch.equal(face.images[0], crop) for crop in crops)
    assert face.photos.shape == (1, 288, 512, 3)
    assert (face.photos[0] - clip).abs().mean((1, 2, 3)).min() < 1 / 255
    assert 0 < face.box[0] < face.points[0, 0] < face.box[2] < 512


@pytest.fixture(scope="module")
def video(host, clip, tmp_path_factory):
    assert host
    from fractions import Fraction

    api = importlib.import_module("comfy_api.latest")
    parts = api.Types.VideoComponents(images=clip, frame_rate=Fraction(24))
    made = api.InputImpl.VideoFromComponents(parts)
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    made.save_to(str(path))
    return made, api.InputImpl.VideoFromFile(str(path)), path


def test_views_of_a_video_file_and_of_one_in_memory(host, video, collected):
    for clip in video[:2]:
        _, crops, _, report = host.run("FantasyIDMultiView", clip=clip, **COLLECT)
        assert crops.shape == collected[1].shape
        assert "24 frames" in report
        assert " s): yaw" in report


def test_a_file_is_read_frame_by_frame_and_within_its_trim(ours, video):
    api = importlib.import_module("comfy_api.latest")
    collect = ours("fantasyid.comfyui.collect")
    frames = collect.read_frames(video[1])
    first = next(frames)
    assert (first.number, first.seconds) == (0, 0.0)
    assert first.gray.shape == (288, 512)
    assert first.color().shape == (288, 512, 3)
    assert first.small_color().shape == (288, 512, 3)
    frames.close()
    trimmed = api.InputImpl.VideoFromFile(str(video[2]), start_time=0.25, duration=0.5)
    times = [f.seconds for f in collect.read_frames(trimmed)]
    assert len(times) == 12
    assert times[0] == pytest.approx(0.25, abs=0.03)


def test_a_damaged_video_is_refused_in_words(host, video, tmp_path):
    api = importlib.import_module("comfy_api.latest")
    whole = video[2].read_bytes()
    (tmp_path / "text.mp4").write_bytes(b"no video")
    clip = api.InputImpl.VideoFromFile(str(tmp_path / "text.mp4"))
    with pytest.raises(ValueError, match=r"text\.mp4 cannot be decoded"):
        host.run("FantasyIDMultiView", clip=clip, **COLLECT)
    (tmp_path / "short.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    clip = api.InputImpl.VideoFromFile(str(tmp_path / "short.mp4"))
    report = host.run("FantasyIDMultiView", clip=clip, **COLLECT)[3]
    assert "promises about 24 frames: the file is damaged or cut off" in report
    with pytest.raises(ValueError, match="is a str, expected VIDEO or IMAGE"):
        host.run("FantasyIDMultiView", clip="clip.mp4", **COLLECT)


def test_a_clip_without_a_face_stops_or_goes_on_empty(host):
    blank = torch.full((9, 96, 128, 3), 0.3)
    with pytest.raises(ValueError, match="No view found: 9 frames"):
        host.run("FantasyIDMultiView", clip=blank, **COLLECT)
    face, crops, _, report = host.run(
        "FantasyIDMultiView", clip=blank, **(COLLECT | {"no_face": "continue without identity"})
    )
    assert face.empty_reason
    assert not crops.any()
    assert report.startswith("NO IDENTITY")


def test_collecting_can_be_interrupted(host, clip, stop_button):
    stop_button.press()
    with stop_button.stops():
        host.run("FantasyIDMultiView", clip=clip, **COLLECT)


BLANK = torch.full((3, 96, 128, 3), 0.3)


@pytest.fixture(scope="module")
def nobody(host):
    """Face and crops of a clip without a face, where the user chose to go on."""
    return host.run("FantasyIDMultiView", clip=BLANK, **(COLLECT | GO_ON))[:2]


def test_the_emptiness_arrives_through_the_crops(host, loaded, nobody):
    _, crops = nobody
    tokens = face_tokens(host, loaded, crops)
    assert tokens.tokens.shape == (0, 36, 128)
    assert "black, which is what the face nodes give where they find no face" in tokens.empty_reason
    (combined,) = host.run("FantasyIDCombine", face_tokens=tokens, mode="mean")
    geometry = face_vertices(host, loaded, crops)
    assert geometry.empty_reason == tokens.empty_reason
    identity = fuse(host, loaded, combined, geometry)
    assert identity.is_empty
    assert identity.empty_reason == tokens.empty_reason


def test_the_emptiness_arrives_through_align_face_too(host, loaded):
    face, crop, *_ = align(host, BLANK[:1], **GO_ON)
    for value in (face, crop):
        tokens = face_tokens(host, loaded, value)
        assert tokens.tokens.shape[0] == 0
        assert tokens.empty_reason


def test_black_crops_among_others_are_left_out(host, loaded, aligned):
    black = torch.zeros(1, 512, 512, 3)
    alone = face_tokens(host, loaded, aligned[1])
    among = face_tokens(host, loaded, torch.cat([black, aligned[1], black]))
    torch.testing.assert_close(among.tokens, alone.tokens)
    dark = black.clone()
    dark[0, 5, 5] = 1 / 255
    assert face_tokens(host, loaded, dark).tokens.shape[0] == 1
