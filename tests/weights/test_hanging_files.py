"""Files that once hung the server, or filled its memory: each is answered within a second or two.

They are read in a child process, because what hangs in the unpickler cannot be stopped from inside.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from fuzz.programs import HANGING, WRAPPERS, in_torch_zip, random_program, whole

from fantasyid.weights.pickle_machine import RefusedPickle
from fantasyid.weights.read import read_torch_file

LIMIT_SECONDS = 8.0  # of processor time; alone, the slowest takes 1.5
MEMORY_BYTES = 1_500_000_000
READ = f"""
import json, sys, time
from pathlib import Path
from fantasyid.weights.read import read_torch_file
from fantasyid.weights.safe_pickle import read_pickle
try:
    import resource, scipy.sparse
    now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + {MEMORY_BYTES},) * 2)
except (ImportError, OSError):
    pass
for name in sys.argv[1:]:
    path, start = Path(name), time.process_time()
    try:
        (read_pickle if path.suffix == ".pkl" else read_torch_file)(path)
        words = ""
    except (ValueError, OSError) as error:
        words = str(error)
    print(json.dumps([name, time.process_time() - start, words]), flush=True)
"""


def read_all(paths: list[Path]) -> list[tuple[str, float, str]]:
    """Name, seconds and complaint of each file."""
    command = [sys.executable, "-c", READ, *map(str, paths)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=True)
    return [tuple(json.loads(line)) for line in run.stdout.splitlines()]


@pytest.mark.slow
def test_nothing_hangs_and_every_complaint_names_its_file(tmp_path):
    paths = []
    for number, program in enumerate(HANGING.values()):
        for name, wrap in WRAPPERS.items():
            path = tmp_path / f"{number}{name}"
            path.write_bytes(wrap(whole(program)))
            paths.append(path)
    found = read_all(paths)
    assert [f for f in found if f[1] > LIMIT_SECONDS] == []
    assert [f for f in found if not f[2].startswith(f[0]) or len(f[2]) > 600] == []
    assert [f for f in found if "weights_only" in f[2] or not f[2].isprintable()] == []


def test_random_programs_are_read_or_refused():
    import io
    import random

    from fantasyid.weights.pickle_machine import run_pickle
    from fantasyid.weights.safe_pickle import _find  # what a name stands for

    dice, outcomes = random.Random(14), set()
    for _ in range(3000):
        try:
            run_pickle(io.BytesIO(random_program(dice)), _find)
            outcomes.add("read")
        except (ValueError, LookupError, TypeError) as error:
            outcomes.add(type(error))
    assert {RefusedPickle, "read"} <= outcomes


def test_what_torch_writes_is_read_exactly_in_both_formats(tmp_path):
    table = torch.randn(6, 4)
    truth = {
        "plain": table, "turned": table.t(), "part": table[2:4, 1:], "half": table.half(),
        "bf16": table.bfloat16(), "one": torch.tensor(3), "none": torch.zeros(0, 3),
        "yes": torch.tensor([True, False]), "fp8": table.to(torch.float8_e4m3fn),
        "parameter": torch.nn.Parameter(table), "deep": {"x": [table, 1, "w", None, 2.5]},
    }  # fmt: skip
    for legacy in (False, True):
        path = tmp_path / "f.pt"
        if legacy:
            truth.pop("fp8")
        torch.save(truth, path, _use_new_zipfile_serialization=not legacy)
        found = read_torch_file(path)
        expected = torch.load(path, weights_only=True)
        assert list(found) == list(expected)
        for name, tensor in expected.items():
            if name != "deep":
                assert found[name].dtype == tensor.dtype
                assert found[name].shape == tensor.shape
                assert torch.equal(found[name].float(), tensor.float()), name
        assert torch.equal(found["deep"]["x"][0], table)
        assert found["deep"]["x"][1:] == [1, "w", None, 2.5]


def test_a_module_of_torch_is_read(tmp_path):
    path = tmp_path / "f.pt"
    module = torch.nn.Linear(3, 2)
    torch.save(module.state_dict(), path)
    assert torch.equal(read_torch_file(path)["weight"], module.weight)


@pytest.mark.slow
def test_a_deflated_bomb_is_refused_before_it_is_inflated(tmp_path):
    path = tmp_path / "f.pt"
    path.write_bytes(in_torch_zip(b"\x80\x02" + b"N0" * 150_000_000, zipfile.ZIP_DEFLATED))
    assert path.stat().st_size < 2_000_000
    with pytest.raises(ValueError, match=r"f\.pt cannot be read .* compressed"):
        read_torch_file(path)
