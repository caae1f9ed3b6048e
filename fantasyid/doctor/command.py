"""What can be said without a running host: files, packages, and the memory that a size takes."""

from __future__ import annotations

import math
import re

import torch

from ..weights.content import Content
from ..weights.download.present import Places
from ..weights.keys import sort_released_keys
from ..weights.progress import in_words
from .findings import ERROR, NOTE, OK, WARNING, Finding
from .memory import Estimate, Run, VideoSize, estimate, identity_bytes
from .packages import installed, packages
from .weights_on_disk import check_files, found_file

OLDEST_HOST = (0, 30, 0)
IDENTITY_TOKENS = 115
# The part of the adapter that is needed at every step, by its released names.
INJECTOR = re.compile(r"layer_attention\.(\d+)\.(norm2|to_q|to_out)\.")


def examine(
    places: Places, size: VideoSize, *, version: str = "", deep: bool = False
) -> list[Finding]:
    """Everything that files tell.

    Args:
        places: The folders that are searched.
        size: Of the video that is planned.
        version: The host's, "" where it is not known.
        deep: Compare hashes.
    """
    found = [host_finding(version)] if version else []
    found += check_files(places, deep=deep)
    found += packages(installed())
    content = found_file("transformer", places)
    needed = None if content is None else from_file(content, size)
    return found if needed is None else [*found, memory_finding(size, needed, *free_memory())]


def host_finding(version: str) -> Finding:
    """Whether the host is new enough."""
    numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:3])
    facts = {"version": version}
    if numbers and numbers < OLDEST_HOST:
        oldest = ".".join(map(str, OLDEST_HOST))
        text = f"ComfyUI {version} is too old: CogVideoX needs {oldest} or newer. Update it."
        return Finding(ERROR, "host", text, facts)
    return Finding(OK, "host", f"ComfyUI {version}.", facts)


def from_file(content: Content, size: VideoSize) -> Estimate | None:
    """The estimate for a model that is not loaded: as the host would load it on this machine."""
    keys = sort_released_keys(content.shapes)
    shapes = {ours: content.shapes[released] for ours, released in keys.base.items()}
    projection = shapes.get("patch_embed.text_proj.weight", ())
    if len(projection) != 2:
        return None
    injectors = [name for name in content.bytes_of if INJECTOR.match(name)]
    weights = sum(content.bytes_of[name] for name in (*keys.base.values(), *injectors))
    on_gpu = torch.cuda.is_available()
    number_bytes = 2 if on_gpu else 4
    first = "patch_embed.proj.weight"
    dim, text_dim = projection
    run = Run(
        dim,
        text_dim,
        compute_bytes=number_bytes,
        casts=content.bytes_of[first] != number_bytes * math.prod(content.shapes[first]),
        fused=on_gpu,
        free_bytes=None if on_gpu else free_memory()[0],
    )
    count = len({m[1] for name in injectors if (m := INJECTOR.match(name))})
    context = content.shapes["layer_attention.0.to_out.weight"][1]
    identity = identity_bytes(count, IDENTITY_TOKENS, context, number_bytes)
    return estimate(size, run, weights, identity)


def free_memory() -> tuple[int | None, str]:
    """Free bytes where a host would compute, None where nothing tells, and what that is."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0], torch.cuda.get_device_name()
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            sizes = dict(line.split(":") for line in file)
        return int(sizes["MemAvailable"].split()[0]) * 1024, "the main memory (no GPU)"
    except (OSError, KeyError, ValueError):
        return None, "the main memory (no GPU)"


def memory_finding(size: VideoSize, needed: Estimate, free: int | None, where: str) -> Finding:
    """Whether sampling a size fits.

    Args:
        free: Bytes that the weights and the run may take, or None where nothing tells.
        where: Of which memory.
    """
    text = (
        f"sampling {size.words} takes about {in_words(needed.total)} of {where}: "
        f"{in_words(needed.weights)} weights and {in_words(needed.activations)} beside them"
    )
    facts = {
        "size": [size.width, size.height, size.length],
        "total": needed.total,
        "weights": needed.weights,
        "activations": needed.activations,
        "free": free,
    }
    room = "" if free is None else f"; {in_words(free)} are free"
    if free is None:
        level, advice = NOTE, "; how much is free is not known here."
    elif needed.activations > free:
        level = ERROR
        advice = (
            ". It will run out: take a smaller size, or fewer frames at once with Context Windows."
        )
    elif needed.total > free:
        level = WARNING
        advice = (
            ". ComfyUI will keep part of the weights outside and fetch them at every step, which "
            "is slower; fp8 weights need less."
        )
    else:
        level, advice = OK, "."
    return Finding(level, "memory", text + room + advice, facts)
