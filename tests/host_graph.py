"""The graph's stages as calls of the nodes, for tests that need a part of it."""

from __future__ import annotations

BASE = "cogvideox_5b_i2v.safetensors"
TRANSFORMS = {"mesh_transforms": "tiny_transform.pkl"}


def load_model(host, name="tiny-fantasyid"):
    """MODEL and adapter of a file or folder."""
    return host.run("FantasyIDModelLoader", model=name, **TRANSFORMS, weight_dtype="default")


def load_adapter(host, name="tiny-fantasyid"):
    return host.run("FantasyIDAdapterLoader", adapter=name, **TRANSFORMS)[0]


def load_base(host, name=BASE, weight_dtype="default"):
    """A base as the host's own loader gives it; nothing of ours is on it."""
    return host.run("UNETLoader", unet_name=name, weight_dtype=weight_dtype)[0]


def load_parts(host):
    """Every tiny model, as its loader gives it."""
    model, adapter = load_model(host)
    encoder = {"face_encoder": "tiny_EVA02_CLIP_L_336_psz14_s6B.pt"}
    head = {"deca": "tiny_deca_model.tar", "flame": "tiny_generic_model.pkl"}
    text = {"clip_name": "tiny_t5xxl.safetensors", "type": "cogvideox"}
    return {
        "model": model,
        "adapter": adapter,
        "encoder": host.run("FantasyIDFaceEncoderLoader", **encoder)[0],
        "deca": host.run("FantasyIDDecaLoader", **head)[0],
        "clip": host.run("CLIPLoader", **text)[0],
        "vae": host.run("VAELoader", vae_name="tiny_cogvideox_vae.safetensors")[0],
    }


def align(host, image, **changes):
    inputs = {"detector": "cascade", "choose": "nearest centre", "index": 0, "no_face": "stop"}
    return host.run("FantasyIDAlignFace", **({"image": image} | inputs | changes))


def face_vertices(host, loaded, face, mode="as released", **custom):
    inputs = {"deca": loaded["deca"], "face": face, "mode": mode}
    return host.run("FantasyIDFaceVertices", **inputs, **custom)[0]


def face_tokens(host, loaded, face):
    inputs = {"face_encoder": loaded["encoder"], "adapter": loaded["adapter"]}
    return host.run("FantasyIDFaceTokens", face=face, **inputs)[0]


def fuse(host, loaded, tokens, geometry):
    inputs = {"face_tokens": tokens, "geometry": geometry}
    return host.run("FantasyIDFuse", adapter=loaded["adapter"], **inputs)[0]


def make_identity(host, loaded, face):
    tokens, geometry = (make(host, loaded, face) for make in (face_tokens, face_vertices))
    return fuse(host, loaded, tokens, geometry)


def average(host, heads, method="weighted", **more):
    grown = {f"geometry{i}": head for i, head in enumerate(heads)}
    return host.run("FantasyIDAverageGeometry", geometries=grown, method=method, **more)


def conditioning(host, loaded, face, length=9, width=96, height=64):
    positive, negative = (
        host.run("CLIPTextEncode", clip=loaded["clip"], text=text)[0] for text in ("a smile", "")
    )
    prompts = {"positive": positive, "negative": negative}
    size = {"width": width, "height": height, "length": length}
    return host.run("FantasyIDFaceLatent", vae=loaded["vae"], face=face, **prompts, **size)


def sample(host, model, conditioned, **changes):
    positive, negative, latent = conditioned
    inputs = {"seed": 3, "steps": 3, "cfg": 6.0, "sampler": "dpm", "denoise": 1.0}
    inputs |= {"model": model, "positive": positive, "negative": negative, "latent_image": latent}
    return host.run("FantasyIDSampler", **(inputs | changes))[0]["samples"]


def apply(host, loaded, identity, strength=1.0, model=None, **dials):
    inputs = {"adapter": loaded["adapter"], "identity": identity, "strength": strength}
    return host.run("FantasyIDApply", model=model or loaded["model"], **inputs, **dials)[0]


def watched(model, function, kind="apply_model"):
    """A clone with a wrapper of the test's own."""
    clone = model.clone()
    clone.add_wrapper_with_key(kind, "test", function)
    return clone


def layer_weights(host, preset="custom", layers="", **inputs):
    return host.run("FantasyIDLayerWeights", preset=preset, layers=layers, **inputs)[0]


def sample_in_parts(host, model, conditioned, guider="FantasyIDGuider", rule="dpm", **changes):
    """The same run as `sample`, as the host's own sampler node with our parts."""
    positive, negative, latent = conditioned
    steps, preset = changes.pop("steps", 3), changes.get("preset", "exact")
    inputs = {"model": model, "positive": positive, "negative": negative, "cfg": 6.0}
    schedule = {"model": model, "steps": steps, "denoise": 1.0, "preset": preset}
    out = host.run(
        "SamplerCustomAdvanced",
        noise=host.run("RandomNoise", noise_seed=3)[0],
        guider=host.run(guider, **(inputs | changes))[0],
        sampler=host.run("FantasyIDSamplerSelect", sampler=rule)[0],
        sigmas=host.run("FantasyIDScheduler", **schedule)[0],
        latent_image=latent,
    )
    return out[0]["samples"]
