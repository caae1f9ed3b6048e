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
