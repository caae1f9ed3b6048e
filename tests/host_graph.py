"""The graph's stages as calls of the nodes, for tests that need a part of it."""

from __future__ import annotations


def align(host, image, **changes):
    inputs = {
        "image": image,
        "detector": "cascade",
        "choose": "nearest centre",
        "index": 0,
        "no_face": "stop",
    }
    return host.run("FantasyIDAlignFace", **(inputs | changes))


def make_identity(host, loaded, face):
    (geometry,) = host.run(
        "FantasyIDFaceVertices", deca=loaded["deca"], face=face, mode="as released"
    )
    (tokens,) = host.run(
        "FantasyIDFaceTokens", face_encoder=loaded["encoder"], adapter=loaded["adapter"], face=face
    )
    (identity,) = host.run(
        "FantasyIDFuse", adapter=loaded["adapter"], face_tokens=tokens, geometry=geometry
    )
    return identity


def conditioning(host, loaded, face, length=9, width=96, height=64):
    positive, negative = (
        host.run("CLIPTextEncode", clip=loaded["clip"], text=text)[0] for text in ("a smile", "")
    )
    return host.run(
        "FantasyIDFaceLatent",
        positive=positive,
        negative=negative,
        vae=loaded["vae"],
        face=face,
        width=width,
        height=height,
        length=length,
    )


def sample(host, model, conditioned, **changes):
    positive, negative, latent = conditioned
    inputs = {"seed": 3, "steps": 3, "cfg": 6.0, "sampler": "dpm", "denoise": 1.0}
    inputs |= {"model": model, "positive": positive, "negative": negative, "latent_image": latent}
    return host.run("FantasyIDSampler", **(inputs | changes))[0]["samples"]


def apply(host, loaded, identity, strength=1.0, model=None):
    return host.run(
        "FantasyIDApply",
        model=model or loaded["model"],
        adapter=loaded["adapter"],
        identity=identity,
        strength=strength,
    )[0]


def sample_in_parts(host, model, conditioned, guider="FantasyIDGuider", rule="dpm", **changes):
    """The same run as `sample`, as the host's own sampler node with our parts."""
    positive, negative, latent = conditioned
    steps = changes.pop("steps", 3)
    inputs = {"model": model, "positive": positive, "negative": negative, "cfg": 6.0}
    out = host.run(
        "SamplerCustomAdvanced",
        noise=host.run("RandomNoise", noise_seed=3)[0],
        guider=host.run(guider, **(inputs | changes))[0],
        sampler=host.run("FantasyIDSamplerSelect", sampler=rule)[0],
        sigmas=host.run("FantasyIDScheduler", model=model, steps=steps, denoise=1.0)[0],
        latent_image=latent,
    )
    return out[0]["samples"]
