"""`python -m fantasyid.download`: what it shows, asks and answers, and what a kill leaves."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from weights.download.file_server import good, publish, status

from fantasyid.weights.download import command, present
from fantasyid.weights.download.fetch import PIECE_BYTES, part_of, size_of
from fantasyid.weights.download.files import FILES
from fantasyid.weights.progress import Lines, Step
from miniature.host_files import vae_file

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
VAE = "CogVideoX VAE"
TARGET = "vae/cogvideox_vae.safetensors"


@pytest.fixture
def hub(web, monkeypatch):
    path = {"vae/diffusion_pytorch_model.safetensors": vae_file()}
    publish(web, "THUDM/CogVideoX-5b-I2V", path)
    monkeypatch.setenv("HF_ENDPOINT", web.url)
    return web


@pytest.fixture
def models(tmp_path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def run(models: Path, *arguments: str) -> int:
    return command.main(["--models", str(models), *arguments])


def test_the_list_shows_every_file_and_asks_nobody(web, models, capsys):
    path = models / TARGET
    path.parent.mkdir()
    path.write_bytes(vae_file())
    assert run(models, "--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(FILES) + 1
    for item, line in zip(FILES, lines[1:], strict=True):
        assert line.startswith(item.name)
        assert item.license in line
        state = "register" if item.registration else "there" if item.name == VAE else "missing"
        assert f"  {state}  " in line
    assert web.asked == []


def test_the_list_names_what_is_damaged(models, capsys):
    path = models / TARGET
    path.parent.mkdir()
    path.write_bytes(vae_file()[:1000])
    assert run(models, "--list") == 0
    (line,) = (text for text in capsys.readouterr().out.splitlines() if text.startswith(VAE))
    assert "  damaged  " in line


def test_with_the_licences_accepted_it_fetches(hub, models, capsys):
    assert run(models, "--accept-licences", VAE) == 0
    out = capsys.readouterr().out
    assert "fetching cogvideox_vae.safetensors" in out
    assert "SHA-256 of 1 of 1 files checked" in out
    assert (models / TARGET).read_bytes() == vae_file()
    asked = len(hub.asked)
    assert run(models, VAE) == 0, "what is there needs no answer"
    assert len(hub.asked) == asked


def test_without_an_answer_nothing_is_fetched(hub, models, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert run(models, VAE) == 2
    out = capsys.readouterr().out
    assert "License: CogVideoX license, see https://huggingface.co/THUDM" in out
    assert "add --accept-licences" in out
    assert hub.asked == []


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("YES\n", 0), ("\n", 2), ("no\n", 2)])
def test_somebody_at_the_keyboard_is_asked(hub, models, monkeypatch, answer, code):
    keyboard = io.StringIO(answer)
    monkeypatch.setattr(keyboard, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", keyboard)
    assert run(models, VAE) == code
    assert (models / TARGET).exists() == (code == 0)
    assert bool(hub.asked) == (code == 0)


def test_a_failure_is_said_and_counted(hub, models, capsys):
    hub.script = [status(404)]
    assert run(models, "--accept-licences", VAE) == 1
    assert "is not there (404)" in capsys.readouterr().out


def test_a_registration_asked_for_by_name_is_not_there(models, capsys):
    assert run(models, "FLAME") == 1
    assert "register at https://flame.is.tue.mpg.de" in capsys.readouterr().out


def test_registrations_do_not_spoil_everything_needed(models, capsys, monkeypatch):
    monkeypatch.setattr(command, "chosen", lambda _: [i for i in FILES if i.registration])
    assert run(models) == 0
    assert "register at" in capsys.readouterr().out


def test_wrong_usage_is_two(models, capsys, tmp_path):
    assert run(models, "nonsense") == 2
    assert 'no model file called "nonsense"' in capsys.readouterr().err
    assert run(tmp_path / "absent", "--list") == 2
    assert "--models DIR" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        run(models, "--mirror", "ftp")
    assert caught.value.code == 2


def test_inside_comfyui_its_models_folder_is_known(models, capsys, monkeypatch):
    extension = models.parent / "custom_nodes" / "ComfyUI-FantasyID"
    monkeypatch.setattr(
        present, "__file__", str(extension / "fantasyid/weights/download/present.py")
    )
    assert command.main(["--list"]) == 0
    assert str(models / "vae") in capsys.readouterr().out
    elsewhere = models.parent / "src" / "ComfyUI-FantasyID"
    monkeypatch.setattr(
        present, "__file__", str(elsewhere / "fantasyid/weights/download/present.py")
    )
    assert command.main(["--list"]) == 2


@pytest.mark.usefixtures("hub")
def test_ctrl_c_says_how_to_go_on(models, capsys, monkeypatch):
    def stop(_: object, step: Step) -> None:
        if step.words.startswith("fetching"):
            raise KeyboardInterrupt

    monkeypatch.setattr(Lines, "__call__", stop)
    assert run(models, "--accept-licences", VAE) == 130
    assert "the same command goes on from here" in capsys.readouterr().err
    assert not (models / TARGET).exists()


def test_killed_in_the_middle_it_completes_the_next_time(hub, models):
    half = 2 * PIECE_BYTES
    hub.script = [good(), good(send=half, stall=True)]
    line = [sys.executable, "-m", "fantasyid.download", "--models", str(models)]
    line += ["--accept-licences", VAE]
    process = subprocess.Popen(line, cwd=ROOT, env=dict(os.environ), stdout=subprocess.PIPE)
    try:
        assert hub.sent.wait(60), "the command did not ask for the file"
        part = part_of(models / TARGET, hashlib.sha256(vae_file()).hexdigest())
        for _ in range(200):
            if size_of(part) == half:
                break
            hub.over.wait(0.05)
        assert size_of(part) == half
    finally:
        process.kill()
        process.communicate()
    assert process.returncode != 0
    assert not (models / TARGET).exists()
    hub.over.set()
    again = subprocess.run(line, cwd=ROOT, env=dict(os.environ), capture_output=True, timeout=60)
    assert again.returncode == 0, again.stderr
    assert hub.ranges()[-1] == f"bytes={half}-"
    assert (models / TARGET).read_bytes() == vae_file()
    assert [path.name for path in (models / "vae").iterdir()] == ["cogvideox_vae.safetensors"]
