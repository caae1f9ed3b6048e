"""Collect Views on the real host: folders of photos, bad files, and a missing face downstream."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from host_client import changed
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
def test_a_whole_path_is_taken_as_typed(host, album, typed):
    path = typed.format(album)
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
    first = client.run(graph)
    assert first.ending == "execution_success", first.errors
    assert "1 photos, a face in 1." in first.outputs["1"]["text"][0]
    assert "1" in client.run(graph).cached
    astronaut.crop((60, 0, 500, 400)).save(folder / "b.png")
    again = client.run(graph)
    assert "2 photos, a face in 2." in again.outputs["1"]["text"][0]
    wrong = client.run(changed(graph, "FantasyIDMultiView", folder="not there"))
    assert wrong.ending == "refused"
    assert f"Looked at: {Path(album.parent) / 'not there'}" in wrong.errors


BLANK = torch.full((3, 96, 128, 3), 0.3)


@pytest.fixture(scope="module")
def nobody(host):
    """Face and crops of a clip without a face, where the user chose to go on."""
    return host.run("FantasyIDMultiView", clip=BLANK, **(COLLECT | GO_ON))[:2]


def test_the_emptiness_arrives_through_the_crops(host, loaded, nobody):
    _, crops = nobody
    run = {"face_encoder": loaded["encoder"], "adapter": loaded["adapter"]}
    (tokens,) = host.run("FantasyIDFaceTokens", face=crops, **run)
    assert tokens.tokens.shape == (0, 36, 128)
    assert "black, which is what the face nodes give where they find no face" in tokens.empty_reason
    (combined,) = host.run("FantasyIDCombine", face_tokens=tokens, mode="mean")
    (geometry,) = host.run(
        "FantasyIDFaceVertices", deca=loaded["deca"], face=crops, mode="as released"
    )
    assert geometry.empty_reason == tokens.empty_reason
    (identity,) = host.run(
        "FantasyIDFuse", adapter=loaded["adapter"], face_tokens=combined, geometry=geometry
    )
    assert identity.is_empty
    assert identity.empty_reason == tokens.empty_reason


def test_the_emptiness_arrives_through_align_face_too(host, loaded):
    face, crop, *_ = host.run(
        "FantasyIDAlignFace",
        image=BLANK[:1],
        detector="cascade",
        choose="largest",
        index=0,
        **GO_ON,
    )
    run = {"face_encoder": loaded["encoder"], "adapter": loaded["adapter"]}
    for value in (face, crop):
        (tokens,) = host.run("FantasyIDFaceTokens", face=value, **run)
        assert tokens.tokens.shape[0] == 0
        assert tokens.empty_reason


def test_black_crops_among_others_are_left_out(host, loaded, aligned):
    black = torch.zeros(1, 512, 512, 3)
    run = {"face_encoder": loaded["encoder"], "adapter": loaded["adapter"]}
    (alone,) = host.run("FantasyIDFaceTokens", face=aligned[1], **run)
    (among,) = host.run("FantasyIDFaceTokens", face=torch.cat([black, aligned[1], black]), **run)
    torch.testing.assert_close(among.tokens, alone.tokens)
    dark = black.clone()
    dark[0, 5, 5] = 1 / 255
    (dim,) = host.run("FantasyIDFaceTokens", face=dark, **run)
    assert dim.tokens.shape[0] == 1
