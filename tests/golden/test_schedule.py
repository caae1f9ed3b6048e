"""The noise schedule and the 10-step run, as formulas and through the host's sampling loop."""

from __future__ import annotations

import math

import pytest
import torch

from fantasyid.cogvideox.schedule import DpmHistory, alphas_cumprod, dpm_step, trailing_timesteps

STEPS = 10


@pytest.fixture(scope="module")
def schedule(golden):
    return golden("g_scheduler")


@pytest.fixture(scope="module")
def start(seeded, schedule):
    sample = seeded.inp("sched_x", (1, 2, 4, 3, 5))
    torch.testing.assert_close(sample, schedule["traj10_x"][0], rtol=0, atol=1e-6)
    return sample


def test_alphas(schedule, relative_error, fidelity):
    error = relative_error(alphas_cumprod(), schedule["alphas_cumprod"])
    fidelity("schedule", "float64", {"cumulative alphas": error})


def test_timesteps(schedule, relative_error, fidelity):
    errors = {
        f"timesteps of {steps} steps": relative_error(
            torch.tensor(trailing_timesteps(steps)), schedule[f"timesteps_{steps}"]
        )
        for steps in (50, 30, 10, 7)
    }
    fidelity("timesteps", "exact", errors)


@pytest.mark.parametrize("steps", [10, 7])
def test_trajectory(schedule, start, relative_error, fidelity, dtype, steps):
    """The recorded run with the recorded noise; each state is compared, the worst is kept."""
    alphas = schedule[f"alpha_t_{steps}"].tolist()
    nexts = schedule[f"alpha_prev_{steps}"].tolist()
    sample, history, errors = start.to(dtype), None, []
    for i, t in enumerate(schedule[f"timesteps_{steps}"].tolist()):
        velocity = torch.tanh(0.3 * sample + t / 1000)
        denoised = math.sqrt(alphas[i]) * sample - math.sqrt(1 - alphas[i]) * velocity
        noise = schedule[f"traj{steps}_noise_used"][i].to(dtype)
        sample = dpm_step(sample, denoised, noise, alphas[i], nexts[i], history)
        history = DpmHistory(denoised, alphas[i])
        errors.append(relative_error(sample, schedule[f"traj{steps}_x"][i + 1]))
    fidelity("trajectory", dtype, {f"worst of {steps} steps": max(errors)})


@pytest.fixture
def host_model(host):
    """The tiny MODEL of the host, its transformer replaced by the velocity that was recorded."""
    (model, _adapter) = host.run(
        "FantasyIDModelLoader",
        model="tiny-fantasyid",
        mesh_transforms="tiny_transform.pkl",
        weight_dtype="default",
    )
    batches: list[int] = []

    def velocity(x, timestep, *_args, **_kwargs):
        batches.append(x.shape[0])
        return torch.tanh(0.3 * x[:, :16] + timestep.view(-1, 1, 1, 1, 1) / 1000)

    transformer = model.model.diffusion_model
    transformer.forward = velocity
    yield model, batches
    del transformer.forward


def packed(values: torch.Tensor) -> torch.Tensor:
    """The 120 recorded numbers in the smallest latent that the model takes; all is elementwise."""
    return torch.cat([values.flatten(), values.new_zeros(8)]).view(1, 16, 2, 2, 2)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("steps", [10, 7])
def test_trajectory_through_the_host(
    host_model, ours, schedule, start, relative_error, fidelity, monkeypatch, steps
):
    """Our SAMPLER and SIGMAS in the host's loop, CFG in a batch of two, the recorded noise."""
    import comfy.sample

    model, batches = host_model
    samplers = ours("fantasyid.comfyui.sampler")
    draws = iter(schedule[f"traj{steps}_noise_used"])
    monkeypatch.setattr(
        samplers.ReleasedSampler,
        "_noise",
        staticmethod(lambda like, _generator: packed(next(draws)).to(like)),
    )
    width = model.model.diffusion_model.patch_embed.text_proj.in_features
    positive, negative = ([[torch.full((1, 226, width), v), {}]] for v in (1.0, 0.0))
    states: list[torch.Tensor] = []
    video = comfy.sample.sample_custom(
        model,
        packed(start),
        6.0,
        samplers.ReleasedSampler("dpm"),
        samplers.trailing_sigmas(model, steps, 1.0),
        positive,
        negative,
        torch.zeros(1, 16, 2, 2, 2),
        callback=lambda _i, _denoised, sample, _total: states.append(sample.clone()),
        disable_pbar=True,
    )
    states.append(model.model.process_latent_in(video))
    assert set(batches) == {2}
    got = [state.flatten()[:120].view_as(start) for state in states]
    errors = [relative_error(g, e) for g, e in zip(got, schedule[f"traj{steps}_x"], strict=True)]
    fidelity("trajectory through the host", torch.float32, {f"worst of {steps} steps": max(errors)})
