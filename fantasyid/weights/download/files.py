"""The files that the nodes read: where each belongs, how large it is, whose license it has.

Sizes are those of the releases, rounded where the hub tells the exact number. A hash stands here
only where it was taken from the file itself; for the others the hub's own list of its files gives
SHA-256 and size at the moment of the download.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..progress import MB, in_words

EVERYTHING = "everything needed"
MIRRORS = ("huggingface", "hf-mirror", "modelscope")


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file (or the folder with the transformer) that a node reads."""

    name: str  # what a drop-down and the command line call it; permanent
    words: str  # what it is
    folder: str  # folder name of the host, below `models`
    target: str  # where it goes in that folder; the folder of the model for the transformer
    size: int  # bytes; about, unless there is a `url`
    kind: str  # what its content must be, as `weights.describe` names it
    license: str  # in words
    page: str  # where its makers describe it and its license
    # "owner/name/path" on huggingface.co and its mirrors; without a path all weights of the
    # repository's transformer folder, wherever it is.
    huggingface: str = ""
    modelscope: str = ""  # the same on ModelScope
    url: str = ""  # its address where it is on no hub
    sha256: str = ""  # of the file at `url`
    registration: str = ""  # why it cannot be fetched, and what to do instead
    instead: tuple[str, ...] = ()  # other names under which a file does the same work
    needed: bool = True  # whether nothing works without it; `EVERYTHING` includes it
    helpful: bool = False  # included likewise, though without it things work, only not as well


COGVIDEOX = "CogVideoX license"
NON_COMMERCIAL = "non-commercial research"
EVA = "EVA02_CLIP_L_336_psz14_s6B"

FILES = (
    ModelFile(
        name="FantasyID model",
        words="the released transformer with the identity layers",
        folder="fantasyid",
        target="FantasyID",
        size=13_300 * MB,
        kind="transformer",
        license="see its page; its base is under the CogVideoX license",
        page="https://huggingface.co/acvlab/FantasyID",
        huggingface="acvlab/FantasyID",
        modelscope="amap_cvlab/FantasyID",
        instead=("fantasyid_adapter.safetensors",),
    ),
    ModelFile(
        name="EVA02-CLIP face encoder",
        words="reads the looks of the face",
        folder="fantasyid",
        target=f"{EVA}.pt",
        size=860 * MB,
        kind="eva",
        license="MIT",
        page="https://huggingface.co/QuanSun/EVA-CLIP",
        huggingface=f"QuanSun/EVA-CLIP/{EVA}.pt",
        modelscope=f"amap_cvlab/FantasyID/face_encoder/{EVA}.pt",
        instead=(f"{EVA}.safetensors",),
    ),
    ModelFile(
        name="mesh transforms",
        words="how the head's vertices are thinned out",
        folder="fantasyid",
        target="transform.pkl",
        size=873_404,
        kind="mesh tables",
        license="derived from FLAME: non-commercial",
        page="https://github.com/Fantasy-AMAP/fantasy-id",
        url="https://github.com/Fantasy-AMAP/fantasy-id/raw/main/assets/transform.pkl",
        sha256="e8dcbc25e8c22fd35b9465c5bdee4c474d08c69047b17ee22dbd01c4858a212e",
        instead=("transform.safetensors",),
    ),
    ModelFile(
        name="T5 text encoder (fp16)",
        words="reads the prompt",
        folder="text_encoders",
        target="t5xxl_fp16.safetensors",
        size=9_800 * MB,
        kind="t5",
        license="Apache-2.0",
        page="https://huggingface.co/comfyanonymous/flux_text_encoders",
        huggingface="comfyanonymous/flux_text_encoders/t5xxl_fp16.safetensors",
        instead=("t5xxl_fp8_e4m3fn.safetensors", "t5xxl_fp8_e4m3fn_scaled.safetensors"),
    ),
    ModelFile(
        name="T5 text encoder (fp8)",
        words="reads the prompt, in half the memory",
        folder="text_encoders",
        target="t5xxl_fp8_e4m3fn.safetensors",
        size=4_900 * MB,
        kind="t5",
        license="Apache-2.0",
        page="https://huggingface.co/comfyanonymous/flux_text_encoders",
        huggingface="comfyanonymous/flux_text_encoders/t5xxl_fp8_e4m3fn.safetensors",
        needed=False,
    ),
    ModelFile(
        name="CogVideoX VAE",
        words="turns pictures into latents and back",
        folder="vae",
        target="cogvideox_vae.safetensors",
        size=430 * MB,
        kind="vae",
        license=COGVIDEOX,
        page="https://huggingface.co/THUDM/CogVideoX-5b-I2V",
        huggingface="THUDM/CogVideoX-5b-I2V/vae/diffusion_pytorch_model.safetensors",
    ),
    ModelFile(
        name="DECA",
        words="reads the 3D shape of the head from a photo",
        folder="fantasyid",
        target="deca_model.tar",
        size=434 * MB,
        kind="deca",
        license=NON_COMMERCIAL,
        page="https://deca.is.tue.mpg.de",
        registration="register at https://deca.is.tue.mpg.de, accept the license and download "
        "deca_model.tar",
        instead=("deca_model.safetensors",),
    ),
    ModelFile(
        name="FLAME",
        words="the head model that DECA speaks",
        folder="fantasyid",
        target="generic_model.pkl",
        size=53 * MB,
        kind="flame",
        license=NON_COMMERCIAL,
        page="https://flame.is.tue.mpg.de",
        registration="register at https://flame.is.tue.mpg.de, accept the license, download "
        "FLAME 2020 and take generic_model.pkl out of it",
        instead=("generic_model.safetensors",),
    ),
    ModelFile(
        name="YuNet face detector",
        words="finds the face and its five points in a photo",
        folder="fantasyid",
        target="face_detection_yunet_2023mar.onnx",
        size=232_589,
        kind="face detector",
        license="MIT",
        page="https://huggingface.co/opencv/face_detection_yunet",
        huggingface="opencv/face_detection_yunet/face_detection_yunet_2023mar.onnx",
        instead=("yunet_n_dynamic.onnx",),
        needed=False,
        helpful=True,
    ),
)  # fmt: skip


def choices() -> list[str]:
    """What can be asked for."""
    return [EVERYTHING, *(file.name for file in FILES)]


def chosen(name: str) -> list[ModelFile]:
    """The files behind a name.

    Raises:
        ValueError: There is no such name.
    """
    found = [
        file
        for file in FILES
        if file.name == name or (name == EVERYTHING and (file.needed or file.helpful))
    ]
    if not found:
        raise ValueError(
            f'there is no model file called "{name}"; there are: {", ".join(choices())}'
        )
    return found


def target_name(name: str) -> str:
    """Where the file of a name goes in its folder, as a drop-down writes it."""
    return _named(name).target


def how_to_get(name: str) -> str:
    """What to do where a file is missing, in words that follow "To get it: "."""
    item = _named(name)
    if item.registration:
        return f"{item.registration}; put it into models/{item.folder}"
    return (
        f'run FantasyID Download Models or python -m fantasyid.download "{name}" (about '
        f"{in_words(item.size)}, license: {item.license}), or fetch it from "
        f"{item.url or item.page} into models/{item.folder}/{item.target}"
    )


def _named(name: str) -> ModelFile:
    (item,) = (file for file in FILES if file.name == name)
    return item
