"""One step against an independent computation, with diffusers' own scheduler and transformer."""

from __future__ import annotations

import importlib.util
import math
from typing import cast

import pytest
import torch
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXTransformer3DModel
from diffusers.schedulers.scheduling_ddim_cogvideox import CogVideoXDDIMScheduler
from torch import Tensor
from torch.nn import ModuleList
from torch.nn.functional import layer_norm, linear, softmax

from fantasyid.cogvideox.positions import rotary_table
from fantasyid.training.export import split_weights
from fantasyid.training.manifest import DataError
from fantasyid.training.network import TrainedNetwork, build_network
from fantasyid.training.objective import loss_of, make_optimizer
from miniature.models import write_tiny_models

from .conftest import BASE, SIZES, batch_of, but


@pytest.fixture(scope="module")
def tiny_models(tmp_path_factory):
    """The stand-ins' files."""
    return write_tiny_models(tmp_path_factory.mktemp("tiny"))


def opened(network: TrainedNetwork) -> TrainedNetwork:
    """A network whose injectors do something: a fresh one's output projections are zero."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for layer in network.injectors.in_order():
            layer.to_out.weight.normal_(0.0, 0.05, generator=generator)
        network.transformer.proj_out.weight.normal_(0.0, 0.1, generator=generator)
    return network


def attention(hidden: Tensor, tokens: Tensor, layer, kv) -> Tensor:
    """Equation 2's attention, written out: released scaling of both sides, softmax, projection."""
    width = tokens.shape[-1]
    heads, head = width // 128, 128
    q = linear(layer_norm(hidden, hidden.shape[-1:], layer.norm_hidden.weight,
                          layer.norm_hidden.bias, 1e-5), layer.to_q.weight)  # fmt: skip
    normed = layer_norm(tokens, (width,), kv.norm_tokens.weight, kv.norm_tokens.bias, 1e-5)
    k, v = linear(normed, kv.to_kv.weight).chunk(2, -1)
    q, k, v = (x.unflatten(-1, (heads, head)).transpose(1, 2) for x in (q, k, v))
    scale = 1 / math.sqrt(math.sqrt(head))
    weights = softmax((q * scale) @ (k * scale).transpose(-1, -2), -1)
    return linear((weights @ v).transpose(1, 2).flatten(2), layer.to_out.weight)


def oracle(network: TrainedNetwork, batch, base: CogVideoXTransformer3DModel) -> Tensor:
    """The loss, without hooks, our schedule or our loss."""
    scheduler = CogVideoXDDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
        prediction_type="v_prediction", rescale_betas_zero_snr=True, snr_shift_scale=1.0,
    )  # fmt: skip
    clean, noise, timesteps = batch.clean, batch.noise, batch.timesteps
    noisy = scheduler.add_noise(clean, noise, timesteps)
    target = scheduler.get_velocity(clean, noise, timesteps)
    image = torch.zeros_like(noisy)
    image[:, 0] = batch.face_latent
    face = network.abstractor(batch.features)
    assert network.fusion is not None
    tokens = torch.cat([face, network.fusion(face, batch.vertices, network.tables)], 1)
    # diffusers' forward, block by block.
    emb = base.time_embedding(base.time_proj(timesteps).to(noisy.dtype))
    joint = base.patch_embed(batch.text, torch.cat([noisy, image], 2))
    text, hidden = joint.split([batch.text.shape[1], joint.shape[1] - batch.text.shape[1]], 1)
    frames, _, height, width = noisy.shape[1:]
    positions = rotary_table(frames, height // 2, width // 2, 64)
    layers, rows = network.injectors.in_order(), cast(ModuleList, network.keys_values.injectors)
    for number, block in enumerate(base.transformer_blocks):
        hidden, text = block(hidden, text, emb, image_rotary_emb=positions)
        hidden = hidden + attention(hidden, tokens, layers[number], rows[number])
    hidden = base.proj_out(base.norm_out(base.norm_final(hidden), temb=emb))
    velocity = hidden.reshape(len(noisy), frames, height // 2, width // 2, -1, 2, 2)
    velocity = velocity.permute(0, 1, 4, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)
    return (velocity - target).square().mean()


def compare(network: TrainedNetwork, batch, config) -> None:
    base = cast(
        CogVideoXTransformer3DModel,
        CogVideoXTransformer3DModel.from_config(network.transformer.config),
    )
    base.load_state_dict(network.transformer.state_dict())
    mine = loss_of(network, batch, config)
    mine.backward()
    gradients = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    network.zero_grad(set_to_none=True)
    theirs = oracle(network, batch, base)
    theirs.backward()
    assert mine.item() == pytest.approx(theirs.item(), rel=1e-5)
    others = {f"transformer.{n}": p.grad for n, p in base.named_parameters()}
    others |= {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
    assert set(gradients) == {n for n, g in others.items() if g is not None}
    for name, gradient in gradients.items():
        expected = others[name]
        assert expected is not None
        error = torch.linalg.vector_norm(gradient - expected)
        size = torch.linalg.vector_norm(expected)
        assert float(error) <= 1e-5 * float(size) + 1e-9, name


@pytest.mark.parametrize("checkpointing", [False, True])
def test_loss_and_every_gradient_equal_the_formula(config, checkpointing):
    config = but(config, train__gradient_checkpointing=checkpointing)
    compare(opened(build_network(config)), batch_of(), config)


@pytest.mark.slow
def test_the_same_at_full_width(config):
    config = but(
        config,
        model__base_sizes=BASE | {"num_attention_heads": 48, "time_embed_dim": 512},
        model__adapter_sizes=SIZES | {"context_dim": 2048},
    )
    compare(opened(build_network(config)), batch_of(), config)


def test_a_lora_is_all_of_the_base_that_is_trained(config, tiny_models):
    """It is exported under names that the host reads, and a step moves it."""
    pytest.importorskip("peft", reason="model.base = 'lora' needs peft: pip install .[training]")
    config = but(
        config, model__base="lora", model__lora_rank=4, weights__transformer=tiny_models.model,
        train__learning_rate=0.1, train__weight_decay=0.0,
    )  # fmt: skip
    network = opened(build_network(config))
    trained = {n: p for n, p in network.named_parameters() if p.requires_grad}
    ours = {n for n in trained if n.startswith("transformer.")}
    assert ours
    assert all(".lora_" in n for n in ours)
    sizes = network.transformer.config
    batch = batch_of()
    batch.text = torch.randn(
        2, 5, sizes["text_embed_dim"], generator=torch.Generator().manual_seed(1)
    )
    optimizer = make_optimizer(network, config)
    before = {n: p.detach().clone() for n, p in network.named_parameters()}
    loss_of(network, batch, config).backward()
    optimizer.step()
    moved = {n for n, p in network.named_parameters() if not torch.equal(p, before[n])}
    # Its second half starts at zero, so that the first has no gradient yet.
    assert {n for n in moved if n.startswith("transformer.")} == {n for n in ours if "lora_B" in n}
    files = split_weights({n: p.detach() for n, p in trained.items()})
    assert len(files["_lora"]) == len(ours)
    assert all(".default." not in n and n.startswith("transformer.") for n in files["_lora"])
    assert files["_base"] == {}


def test_eight_bit_adam_trains_or_says_what_is_missing(config):
    config = but(config, train__optimizer="adamw8bit")
    network = opened(build_network(config))
    if importlib.util.find_spec("bitsandbytes") is None:
        with pytest.raises(DataError, match="needs bitsandbytes: pip install bitsandbytes"):
            make_optimizer(network, config)
        pytest.skip("bitsandbytes is not installed: only its absence was tested")
    optimizer, losses = make_optimizer(network, config), []
    for _ in range(4):
        loss = loss_of(network, batch_of(), config)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    states = [s for s in optimizer.state.values() if "state1" in s]
    assert any(s["state1"].dtype is torch.uint8 for s in states)


def test_every_trained_parameter_gets_a_gradient(config):
    network = opened(build_network(config))
    loss_of(network, batch_of(), config).backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    # Time and norm modulations start at zero gates in places; nothing of the adapter may lack one.
    assert [n for n in without if not n.startswith("transformer.")] == []


def test_a_fresh_adapter_changes_nothing(config):
    network, batch = build_network(config), batch_of()
    with torch.no_grad():
        pairs = network.identity(batch.features, batch.vertices)
        image = torch.zeros_like(batch.clean)
        with_it = network.velocity(batch.clean, batch.timesteps, batch.text, image, pairs)
        bare = network.velocity(batch.clean, batch.timesteps, batch.text, image, None)
    assert torch.equal(with_it, bare)


def test_samples_of_one_reference_share_its_identity(config):
    network = opened(build_network(config))
    batch, wide = batch_of(4, 2), batch_of(4, 4)
    for name in ("features", "vertices", "face_latent"):
        setattr(wide, name, getattr(batch, name).repeat_interleave(2, 0))
    with torch.no_grad():
        torch.testing.assert_close(loss_of(network, batch, config), loss_of(network, wide, config))


def test_a_sample_without_identity_is_the_bare_base(config):
    network, batch = opened(build_network(config)), batch_of()
    batch.keep = torch.tensor([1.0, 0.0])
    with torch.no_grad():
        image = torch.zeros_like(batch.clean)
        image[:, 0] = batch.face_latent
        velocity = network(batch.clean, batch)
        bare = network.velocity(batch.clean, batch.timesteps, batch.text, image, None)
    torch.testing.assert_close(velocity[1], bare[1])
    assert not torch.allclose(velocity[0], bare[0])


def test_one_padding_stands_for_all_equal_ones(config):
    network, batch = opened(build_network(config)), batch_of()
    image = torch.zeros_like(batch.clean)
    batch.text[:, 3:] = batch.text[:, 3:4]
    with torch.no_grad():
        whole = network.velocity(batch.clean, batch.timesteps, batch.text, image, None)
        paddings = batch.text.shape[1] - 3
        folded = network.velocity(
            batch.clean, batch.timesteps, batch.text[:, :4], image, None, paddings=paddings
        )
        uncounted = network.velocity(batch.clean, batch.timesteps, batch.text[:, :4], image, None)
    torch.testing.assert_close(folded, whole, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(uncounted, whole, rtol=1e-3, atol=1e-3)
