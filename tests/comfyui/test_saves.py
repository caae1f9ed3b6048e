"""Saves into the host's output folder: every one a file of its own, whatever its name."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    "prefix", ["people/", "people//", "people/a", "./people/./b", "people\\c", "%year%/d/"]
)
def test_three_saves_are_three_files_and_the_first_stays(host, identity, prefix):
    paths = [
        host.run("FantasyIDSaveIdentity", identity=identity, filename_prefix=prefix, note=str(n))[0]
        for n in range(3)
    ]
    assert len(set(paths)) == 3
    read = host.ours("fantasyid.weights.identity_file").read_identity
    path = type(host.ours("fantasyid.comfyui.files").Path())
    assert [read(path(name)).provenance.note for name in paths] == ["0", "1", "2"]


@pytest.mark.parametrize("prefix", ["", "/", "../x", "a/../../x", "n" * 5000, "a/" + "ä" * 150])
def test_what_is_no_name_is_refused_in_a_sentence(host, identity, prefix):
    with pytest.raises(ValueError, match="is no name for a file in the output folder") as caught:
        host.run("FantasyIDSaveIdentity", identity=identity, filename_prefix=prefix, note="")
    assert len(str(caught.value)) < 400
