"""Pickles of arrays are read exactly, and nothing else is."""

from __future__ import annotations

import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from weights import python2_pickle as python2

from fantasyid.weights.safe_pickle import RefusedPickle, read_pickle


def flame_like(protocol: int) -> tuple[bytes, dict]:
    rng = np.random.default_rng(4)
    dense = rng.random((5, 7)) * (rng.random((5, 7)) < 0.4)
    columns, rows = np.nonzero(dense.T)
    truth = {
        "f": rng.integers(0, 7, (9, 3)).astype(np.uint32),
        "kintree_table": np.array([[4294967295, 0, 1], [0, 1, 2]], np.int64),
        "J_regressor": dense,
        "shapedirs": rng.standard_normal((7, 3, 4)),
        "posedirs": np.asfortranarray(rng.standard_normal((7, 3, 2))),
        "weights": rng.random((7, 5)).astype(">f4"),
        "picked": np.array([[3.5, 1.5], [0.5, 3.5]]),
        "bs_style": "lbs",
    }
    csc = python2.Named(
        "scipy.sparse.csc",
        "csc_matrix",
        _shape=(5, 7),
        maxprint=50,
        indices=rows.astype(np.int32),
        indptr=np.searchsorted(columns, np.arange(8)).astype(np.int32),
        data=dense.T[columns, rows],
    )
    value = dict(truth, J_regressor=csc)
    value["shapedirs"] = python2.Named(
        "chumpy.ch", "Ch", x=truth["shapedirs"], _dirty_vars={"x"}, _cache={"r": None}
    )
    whole = python2.Named("chumpy.ch", "Ch", x=np.array([0.5, 1.5, 2.5, 3.5]))
    value["picked"] = python2.Named(
        "chumpy.reordering",
        "Select",
        a=whole,
        idxs=np.array([3, 1, 0, 3]),
        preferred_shape=(2, 2),
    )
    return python2.dumps(value, protocol), truth


@pytest.mark.parametrize("protocol", [0, 2])
def test_a_python_2_flame_pickle_is_read_exactly(tmp_path, protocol):
    path = tmp_path / "generic_model.pkl"
    content, truth = flame_like(protocol)
    path.write_bytes(content)
    got = read_pickle(path)
    got["J_regressor"] = got["J_regressor"].toarray()
    assert set(got) == set(truth)
    for key, expected in truth.items():
        if isinstance(expected, str):
            assert got[key] == expected
        else:
            assert got[key].dtype == expected.dtype.newbyteorder("=")
            assert np.array_equal(got[key], expected), key


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_this_python_are_read_in_every_protocol(tmp_path, protocol):
    sparse = pytest.importorskip("scipy.sparse")
    rng = np.random.default_rng(0)
    dense = rng.random((4, 6)) * (rng.random((4, 6)) < 0.5)
    value = {
        "csc": sparse.csc_matrix(dense),
        "csr": sparse.csr_matrix(dense),
        "coo": sparse.coo_matrix(dense),
        "plain": [rng.random((2, 3)).astype(np.float32), np.arange(3), np.array([True, False])],
        "empty": np.zeros((0, 3)),
        "scalars": [1, 2.5, "word", None, True],
    }
    path = tmp_path / "value.pkl"
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    got = read_pickle(path)
    for layout in ("csc", "csr", "coo"):
        assert np.array_equal(got[layout].toarray(), dense)
    for mine, theirs in zip(got["plain"], value["plain"], strict=True):
        assert mine.dtype == theirs.dtype
        assert np.array_equal(mine, theirs)
    assert got["empty"].shape == (0, 3)
    assert got["scalars"] == value["scalars"]


def test_the_mesh_transforms_are_read_as_a_plain_unpickler_reads_them(shared):
    pytest.importorskip("scipy.sparse")
    path = shared / "data" / "transform.pkl"
    with path.open("rb") as file:
        expected = pickle.load(file)  # noqa: S301  (a file of known checksum, as the oracle)
    got = read_pickle(path)
    assert set(got) == set(expected)
    for key, levels in expected.items():
        assert len(levels) == len(got[key])
        for mine, theirs in zip(got[key], levels, strict=True):
            if hasattr(theirs, "toarray"):
                assert mine.shape == theirs.shape
                for part in ("indices", "indptr", "data"):
                    assert np.array_equal(getattr(mine, part), getattr(theirs, part))
            else:
                assert mine.dtype == theirs.dtype
                assert np.array_equal(mine, theirs)


def refuse(path: Path, content: bytes, match: str | None = None) -> str:
    path.write_bytes(content)
    with pytest.raises(RefusedPickle, match=match) as caught:
        read_pickle(path)
    return str(caught.value)


def test_a_file_cannot_ask_for_much_memory(tmp_path):
    path = tmp_path / "evil.pkl"
    path.write_bytes(b"\x80\x02]r\xff\xff\xff\xff.")
    tracemalloc.start()
    with pytest.raises(ValueError, match="expected a dict"):
        read_pickle(path)
    path.write_bytes(b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.")
    with pytest.raises(ValueError, match="not a complete pickle"):
        read_pickle(path)
    wide = python2.Named("scipy.sparse.coo", "coo_matrix", shape=(2**40, 2**40))
    none = np.zeros(0, np.int32)
    wide.state |= {"row": none, "col": none, "data": np.zeros(0)}
    refuse(path, python2.dumps({"a": wide}, 2), "has the shape")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_shared_lists_do_not_multiply(tmp_path):
    refuse(tmp_path / "evil.pkl", b"\x80\x02}U\x01a" + b"]" * 5 + b"a" * 4 + b"s.", "nested deeper")
    numbers = b"]q\x00(" + b"K\x01" * 400 + b"e"
    many = numbers + b"0](" + b"h\x00" * 400 + b"e"
    refuse(tmp_path / "evil.pkl", b"\x80\x02}U\x01a" + many + b"s.", "more values")


def test_sparse_matrices_with_false_indices_are_refused(tmp_path):
    def matrix(**changes):
        state = {
            "_shape": (2, 2),
            "indices": np.array([0, 1], np.int32),
            "indptr": np.array([0, 1, 2], np.int32),
            "data": np.ones(2),
        }
        named = python2.Named("scipy.sparse.csc", "csc_matrix", **(state | changes))
        return python2.dumps({"m": named}, 2)

    path = tmp_path / "m.pkl"
    path.write_bytes(matrix())
    assert np.array_equal(read_pickle(path)["m"].toarray(), np.eye(2))
    refuse(path, matrix(indices=np.array([0, 2], np.int32)), "does not fit itself")
    refuse(path, matrix(indices=np.array([0, -1], np.int32)), "does not fit itself")
    refuse(path, matrix(indices=np.array([0.0, 1.0])), "no array 'indices'")
    refuse(path, matrix(indptr=np.array([0, 2, 1], np.int32)), "does not fit itself")
    refuse(path, matrix(indptr=np.array([0, 1, 9], np.int32)), "does not fit itself")
    refuse(path, matrix(indptr=np.array([0, 2], np.int32)), "does not fit itself")
    refuse(path, matrix(data=np.ones(3)), "does not fit itself")
    # Unsigned, a step back is a step of 2**64 - 1 ahead: memory for it, and hours.
    refuse(path, matrix(indptr=np.array([0, 2, 1], np.uint64)), "does not fit itself")
    refuse(path, matrix(indptr=np.array([0, 2**64 - 1, 2], np.uint64)), "does not fit itself")
    refuse(path, matrix(indices=np.array([0, 2**64 - 1], np.uint64)), "does not fit itself")
    refuse(path, matrix(_shape=(2,)), "has the shape")
    refuse(path, matrix(data="x"), "no array 'data'")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "an HTML page"),
        (b"\n <html>", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "Git LFS pointer"),
        (b"PK\x03\x04rest", "a zip archive"),
        (b"\xff\xfe\xfd", "not a complete pickle"),
        (b"\x80\x63.", "not a complete pickle"),
        (b"]\x94.", "expected a dict"),
        (b"just some text", "not a complete pickle"),
    ],
)
def test_other_files_are_named_for_what_they_are(tmp_path, content, match):
    path = tmp_path / "model.pkl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=match) as caught:
        read_pickle(path)
    assert "model.pkl" in str(caught.value)


def test_a_missing_file_and_a_huge_one_are_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"absent\.pkl: there is no such file"):
        read_pickle(tmp_path / "absent.pkl")
    path = tmp_path / "model.pkl"
    path.write_bytes(flame_like(2)[0])
    monkeypatch.setattr("fantasyid.weights.safe_pickle.MAX_FILE_BYTES", 100)
    with pytest.raises(ValueError, match="more than 100 bytes are not read"):
        read_pickle(path)


@given(cut=st.floats(0, 1, exclude_max=True), protocol=st.sampled_from([0, 2]))
def test_a_file_cut_anywhere_is_refused_by_name(tmp_path, cut, protocol):
    content = flame_like(protocol)[0]
    path = tmp_path / "cut.pkl"
    path.write_bytes(content[: int(cut * len(content))])
    with pytest.raises(ValueError, match=r"cut\.pkl"):
        read_pickle(path)


# Python itself warns of an odd backslash in a damaged word.
@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
@settings(max_examples=150)
@given(position=st.integers(0, 10**6), value=st.integers(0, 255))
def test_a_damaged_file_is_read_or_refused_by_name(tmp_path, position, value):
    content = bytearray(flame_like(2)[0])
    content[position % len(content)] = value
    path = tmp_path / "damaged.pkl"
    path.write_bytes(content)
    message = "damaged.pkl"
    try:
        read_pickle(path)
    except ValueError as error:
        message = str(error)
    assert "damaged.pkl" in message
