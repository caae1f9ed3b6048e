"""Addresses of the hubs, and what their lists of files say."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from weights.download.file_server import Served, status

from fantasyid.weights.download.hubs import MODELSCOPE, Hub, _entry, choose_hub, list_files
from fantasyid.weights.download.transport import DownloadError, Patience

QUICK = Patience(timeout=2.0, attempts=2, backoff=0.0)
HASH = "ab" * 32


def listed(web, content: object, hub: Hub | None = None):
    hub = hub or Hub(web.url)
    path = hub.list_url("a/b").removeprefix(web.url)
    web.files[path] = Served(json.dumps(content).encode())
    return list_files(hub, "a/b", patience=QUICK)


def test_the_mirrors_have_their_addresses():
    plain = choose_hub("huggingface", {})
    assert plain.url("a/b", "c d/e.pt") == "https://huggingface.co/a/b/resolve/main/c%20d/e.pt"
    assert plain.list_url("a/b") == "https://huggingface.co/api/models/a/b/tree/main?recursive=true"
    assert choose_hub("hf-mirror", {}).endpoint == "https://hf-mirror.com"
    scope = choose_hub("modelscope", {})
    assert scope.url("a/b", "c.pt") == f"{MODELSCOPE}/models/a/b/resolve/master/c.pt"
    assert scope.list_url("a/b").startswith(f"{MODELSCOPE}/api/v1/models/a/b/repo/files?")
    with pytest.raises(ValueError, match='no mirror "ftp"; there are: huggingface, hf-mirror'):
        choose_hub("ftp", {})


def test_the_endpoint_of_the_environment_wins():
    assert choose_hub("huggingface", {"HF_ENDPOINT": "https://x.org/"}).endpoint == "https://x.org"
    assert choose_hub("hf-mirror", {"HF_ENDPOINT": "https://x.org"}).endpoint != "https://x.org"
    with pytest.raises(ValueError, match=r"HF_ENDPOINT is 'x\.org', expected an address"):
        choose_hub("huggingface", {"HF_ENDPOINT": "x.org"})


@pytest.mark.parametrize(
    ("mirror", "endpoint", "token"),
    [
        ("huggingface", "", "secret"),
        ("huggingface", "https://x.org", "secret"),
        ("huggingface", "http://localhost:80", "secret"),
        ("huggingface", "http://x.org", ""),
        ("hf-mirror", "", ""),
        ("modelscope", "", ""),
    ],
)
def test_the_token_is_for_the_endpoint_and_never_in_the_clear(mirror, endpoint, token):
    hub = choose_hub(mirror, {"HF_TOKEN": "secret", "HF_ENDPOINT": endpoint})
    assert hub.token == token
    assert "secret" not in repr(hub)


def test_offline_is_respected():
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE is set: nothing is fetched"):
        choose_hub("huggingface", {"HF_HUB_OFFLINE": "1"})


def test_a_list_of_hugging_face_has_sizes_and_hashes(web):
    found = listed(
        web,
        [
            {"type": "directory", "path": "vae", "size": 0},
            {"type": "file", "path": "config.json", "size": 12, "oid": "f" * 40},
            {"type": "file", "path": "vae/w.pt", "size": 130, "lfs": {"oid": HASH, "size": 9000}},
        ],
        Hub(web.url, token="secret"),
    )
    assert {p: (r.size, r.sha256, r.token) for p, r in found.items()} == {
        "config.json": (12, "", "secret"),
        "vae/w.pt": (9000, HASH, "secret"),
    }
    assert found["vae/w.pt"].url == f"{web.url}/a/b/resolve/main/vae/w.pt"
    assert web.asked[0].headers["Authorization"] == "Bearer secret"
    assert "secret" not in repr(found)


def test_a_list_of_modelscope_has_them_too(web):
    entries = [
        {"Type": "tree", "Path": "vae", "Size": 0},
        {"Type": "blob", "Path": "vae/w.pt", "Size": 9000, "Sha256": HASH},
    ]
    found = listed(web, {"Data": {"Files": entries}}, Hub(web.url, is_modelscope=True))
    assert list(found) == ["vae/w.pt"]
    assert (found["vae/w.pt"].size, found["vae/w.pt"].sha256) == (9000, HASH)


@pytest.mark.parametrize(
    "content",
    [
        {"error": "x"},
        [1],
        [{"type": "file"}],
        [{"type": "file", "path": "../x", "size": 1}],
        [{"type": "file", "path": "/x", "size": 1}],
        [{"type": "file", "path": "c:x", "size": 1}],
        [{"type": "file", "path": "x", "size": -1}],
        [{"type": "file", "path": "x", "size": 1, "lfs": {"oid": "12"}}],
    ],
)
def test_something_else_is_no_list(web, content):
    with pytest.raises(DownloadError, match="is no list of files"):
        listed(web, content)


def test_an_empty_list_is_said(web):
    with pytest.raises(DownloadError, match="lists no files: the repository is empty"):
        listed(web, [])


def test_a_page_is_no_list_and_a_busy_hub_is_asked_again(web):
    hub = Hub(web.url)
    web.files[hub.list_url("a/b").removeprefix(web.url)] = Served(b"<html>log in</html>")
    web.script = [status(503)]
    with pytest.raises(DownloadError, match="a page of a proxy or a login"):
        list_files(hub, "a/b", patience=QUICK)
    assert len(web.asked) == 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
ENTRIES = st.fixed_dictionaries({"type": JSON | st.just("file"), "path": JSON, "size": JSON})


@given(entry=JSON | ENTRIES)
def test_no_entry_leads_out_of_its_repository(entry):
    try:
        found = _entry(Hub("https://x"), "a/b", entry)
    except (ValueError, KeyError, TypeError, AttributeError):
        return
    if found is not None:
        path, remote = found
        assert not {"..", "", "."} & set(path.split("/"))
        assert remote.size is not None
        assert remote.size >= 0
