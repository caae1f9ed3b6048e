"""NaN and infinity in any dial, in pixels, latents, identities or weights: refused by name."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from host_graph import apply, conditioning, sample

STRANGE = (math.nan, math.inf, -math.inf)


def dials(host) -> list[tuple[str, str]]:
    """Node and input of every number of every node."""
    nodes = host.ours("nodes").NODES
    return [
        (schema.node_id, entry.id)
        for schema in (node.define_schema() for node in nodes)
        for entry in schema.inputs
        if entry.io_type == "FLOAT"
    ]


def test_every_dial_refuses_what_is_no_number_and_says_its_name(host):
    found = dials(host)
    assert len(found) > 20
    for node, name in found:
        for value in STRANGE:
            with pytest.raises(ValueError, match=rf"^{name} has values that are not numbers"):
                host.run(node, **{name: value})


def test_pixels_latents_and_identities_are_looked_at(host, loaded, identity, conditioned, aligned):
    spoiled = replace(identity, face_tokens=identity.face_tokens.clone().fill_(math.nan))
    with pytest.raises(ValueError, match=r"identity \(face_tokens\) has values"):
        apply(host, loaded, spoiled)
    positive, negative, latent = conditioned
    broken = {"samples": latent["samples"] + math.inf}
    with pytest.raises(ValueError, match=r"latent_image \(samples\) has values"):
        sample(host, loaded["model"], (positive, negative, broken))
    face = replace(aligned[0], images=aligned[0].images + math.nan)
    with pytest.raises(ValueError, match=r"face \(images\) has values"):
        conditioning(host, loaded, face)


def test_a_model_that_gives_nan_is_no_black_video(host, loaded, conditioned):
    model = loaded["model"].clone()
    weight = "diffusion_model.proj_out.weight"
    shape = model.get_model_object(weight).shape
    model.add_patches({weight: ("diff", (torch.full(shape, math.nan),))})
    with pytest.raises(ValueError, match="step 1 of 3 gives values that are not numbers"):
        sample(host, model, conditioned)


def test_a_file_with_nan_is_named_with_its_tensor(host):
    weights = host.ours("fantasyid.comfyui.weights")
    good, bad = torch.ones(3), torch.tensor([1.0, math.nan])
    for dtype in (torch.float32, torch.bfloat16, torch.float8_e4m3fn):
        with pytest.raises(ValueError, match=r"a\.pt: 1 tensors hold .*: bad; the file is damaged"):
            weights.check_finite({"good": good.to(dtype), "bad": bad.to(dtype)}, "a.pt")
