"""Pickles that would run something, or make what is no array: refused by name, never run."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from fantasyid.weights.safe_pickle import RefusedPickle, read_pickle

TOUCH = b"S'touch MARKER'\n"
EMPTY_ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
FLOATS = b"cnumpy\ndtype\n(S'f8'\nI0\nI1\ntR"
HOSTILE = {
    "posix.system": b"cposix\nsystem\n(" + TOUCH + b"tR.",
    "os.system": b"cos\nsystem\n(" + TOUCH + b"tR.",
    "nt.system": b"cnt\nsystem\n(" + TOUCH + b"tR.",
    "subprocess.Popen": b"csubprocess\nPopen\n((lS'touch'\naS'MARKER'\natR.",
    "builtins.eval": b'cbuiltins\neval\n(S\'open("MARKER", "w")\'\ntR.',
    "builtins.exec": b'cbuiltins\nexec\n(S\'open("MARKER", "w")\'\ntR.',
    "__builtin__.getattr": b"c__builtin__\ngetattr\n(cnumpy\nndarray\nS'tofile'\ntR.",
    "importlib.import_module": b"cimportlib\nimport_module\n(S'antigravity'\ntR.",
    "functools.partial": b"cfunctools\npartial\n(cos\nsystem\n" + TOUCH + b"tR.",
    "operator.attrgetter": b"coperator\nattrgetter\n(S'system'\ntR.",
    "numpy.fromfile": b"cnumpy\nfromfile\n(S'/etc/passwd'\ntR.",
    "numpy.load": b"cnumpy\nload\n(S'x'\ntR.",
    "torch.storage._load_from_bytes": b"ctorch.storage\n_load_from_bytes\n(S'x'\ntR.",
    "chumpy.ch.ChLambda": b"cchumpy.ch\nChLambda\n)\x81.",
    "chumpy.ch.Ch.__init__": b"\x80\x04\x8c\x09chumpy.ch\x8c\x0bCh.__init__\x93.",
    "os.system by INST": b"(" + TOUCH + b"ios\nsystem\n.",
}


UNSAFE_STEPS = {
    "INST of an allowed name": b"(S'f8'\ninumpy\ndtype\n.",
    "OBJ": b"(cchumpy.ch\nCh\no.",
    "persistent id": b"Pfoo\n.",
    "binary persistent id": b"S'foo'\nQ.",
    "extension code 1": b"\x82\x01.",
    "extension code 2": b"\x83\x01\x00.",
    "extension code 4": b"\x84\x01\x00\x00\x00.",
    "call ndarray": b"cnumpy\nndarray\n((I1000000000000\nttR.",
    "call Ch": b"cchumpy.ch\nCh\n(I1\ntR.",
    "set the attributes of a class": b"cchumpy.ch\nCh\n(dS'state'\nI1\nsb.",
    "set the attributes of a function": b"c_codecs\nencode\n(dS'x'\nI1\nsb.",
    "set the attributes of a dict": b"(d(dS'x'\nI1\nsb.",
    "make a type": b"cchumpy.ch\nCh\n(I1\nt\x81.",
    "object dtype": b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR.",
    "structured dtype": b"cnumpy\ndtype\n(S'V16'\nI0\nI1\ntR.",
    "huge shape": EMPTY_ARRAY + b"(I1\n(I1000000000\nt" + FLOATS + b"I00\nS'x'\ntb.",
    "negative shape": EMPTY_ARRAY + b"(I1\n(I-1\nt" + FLOATS + b"I00\nS'12345678'\ntb.",
    "shape that is no tuple": EMPTY_ARRAY + b"(I1\nI1\n" + FLOATS + b"I00\nS'12345678'\ntb.",
    "too few bytes": EMPTY_ARRAY + b"(I1\n(I2\nt" + FLOATS + b"I00\nS'12345678'\ntb.",
    "array of a list": EMPTY_ARRAY + b"(I1\n(I1\nt" + FLOATS + b"I00\n(lI1\natb.",
    "reconstruct something else": b"cnumpy.core.multiarray\n_reconstruct\n(I1\n(I0\ntS'b'\ntR.",
    "reconstructor of another class": b"ccopy_reg\n_reconstructor\n(cnumpy\nndarray\n"
    b"c__builtin__\nobject\nNtR.",
    "encode with another codec": b"c_codecs\nencode\n(S'x'\nS'zlib'\ntR.",
}


def refuse(path: Path, content: bytes, match: str | None = None) -> str:
    path.write_bytes(content)
    with pytest.raises(RefusedPickle, match=match) as caught:
        read_pickle(path)
    return str(caught.value)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_refused_and_named(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = HOSTILE[name]
    message = refuse(tmp_path / "evil.pkl", content)
    assert name.split(" ")[0] in message
    assert "evil.pkl" in message
    inner = content[2:-1] if content.startswith(b"\x80") else content[:-1]
    refuse(tmp_path / "evil.pkl", b"\x80\x04(dS'f'\n" + inner + b"s.")
    assert [p.name for p in tmp_path.iterdir()] == ["evil.pkl"]


def test_the_hostile_pickles_would_act_if_they_were_let(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(HOSTILE["builtins.eval"], encoding="latin1").close()  # noqa: S301
    assert (tmp_path / "MARKER").exists()


def test_reduce_from_a_live_object_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return exec, (f"open({str(tmp_path / 'MARKER')!r}, 'w')",)

    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        refuse(tmp_path / "evil.pkl", pickle.dumps({"f": Evil()}, protocol), "builtin")
    assert not (tmp_path / "MARKER").exists()


@pytest.mark.parametrize("name", UNSAFE_STEPS)
def test_an_unsafe_step_is_refused(tmp_path, name):
    path = tmp_path / "evil.pkl"
    path.write_bytes(UNSAFE_STEPS[name])
    with pytest.raises(ValueError, match=r"evil\.pkl: (refused|not a complete pickle)"):
        read_pickle(path)


def test_python_objects_and_object_arrays_are_refused(tmp_path):
    path = tmp_path / "evil.pkl"
    refuse(path, pickle.dumps({"a": np.array([{}, []], dtype=object)}, 2), "element type 'O")
    refuse(path, pickle.dumps({"a": Path("x")}), "pathlib")
    refuse(path, pickle.dumps({1: 2}), "keys are not words")
