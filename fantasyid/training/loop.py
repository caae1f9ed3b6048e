"""The training loop (paper 4.1): AdamW on v, exact resume, and a word about every bad sample."""

from __future__ import annotations

import math
import shutil
import signal
import statistics
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedType
from diffusers.optimization import get_scheduler
from torch import nn
from torch.utils import deterministic
from torch.utils.data import DataLoader
from tqdm import tqdm

from .batches import Batch, Batches
from .checkpoint import Average, checkpoints, load_checkpoint, save_checkpoint
from .config import Config, as_plain
from .manifest import DataError
from .objective import first_bad_layer, loss_of, make_optimizer
from .progress import METRICS, BadStep, Metrics, Progress, TrainingStopped

SAVE_NOW, SAMPLE_NOW = "save-now", "sample-now"
SPIKE_WINDOW = 100


class Trainer:
    """A run: built, resumed where it stopped, and trained to its last step.

    Args:
        network: Takes a `Batch` and noisy latents; its trained parameters require gradients.
        batches: Of this device.
        validate: Called with (network, step); None switches validation off.
    """

    def __init__(
        self,
        config: Config,
        accelerator: Accelerator,
        network: nn.Module,
        batches: Batches,
        validate: Any = None,
    ) -> None:
        self.config, self.accelerator, self.batches = config, accelerator, batches
        self.validate, self.out, self.progress = validate, config.train.out, Progress()
        self.stopping: str = ""
        # Sums in a fixed order, so that a resumed run ends in the same bits; what has no such form
        # on a device is named by torch and runs as it is.
        torch.use_deterministic_algorithms(True, warn_only=True)
        # Not that every new tensor is filled first: nothing reads what it has not written.
        setattr(deterministic, "fill_uninitialized_memory", False)  # noqa: B010 (unknown to pyright)
        self.waited_s = 0.0
        # Together: FSDP and DeepSpeed put other parameters in the place of those that they share.
        prepared: Any = accelerator.prepare(network, make_optimizer(network, config))
        self.network, self.optimizer = prepared
        self.average = Average(self.network, config.train.ema_decay)
        self.schedule = get_scheduler(
            config.train.schedule, self.optimizer, num_warmup_steps=config.train.warmup,
            num_training_steps=config.train.steps, num_cycles=config.train.restarts,
        )  # fmt: skip
        self.out.mkdir(parents=True, exist_ok=True)
        self.metrics = Metrics(self.out / METRICS, accelerator.is_main_process)
        self.resume()

    def resume(self) -> None:
        """Go on from the newest whole checkpoint, if there is one.

        Raises:
            DataError: It was made with another configuration, or on other data.
        """
        for partial in self.out.glob("*.partial"):
            if self.accelerator.is_main_process:
                shutil.rmtree(partial, ignore_errors=True)
        found, changed = checkpoints(self.out), ""
        if found:
            state = load_checkpoint(found[-1], self.network, self.optimizer, self.average)
            if state["config"] != self.config.fingerprint():
                raise DataError(
                    f"{found[-1]} was made with another configuration: give `train.out` another "
                    "folder, or take the settings back (only out, steps, workers and how often to "
                    "save or log may change)"
                )
            self.progress = Progress(**state["progress"])
            self.schedule.load_state_dict(state["schedule"])
            changed = self._changed_data(state.get("data", self.batches.data), found[-1])
        self.metrics.cut(self.progress.step)
        if changed:
            self.metrics.add({"step": self.progress.step, "new_data": changed})

    def _changed_data(self, before: str, checkpoint: Path) -> str:
        """How the data differ from those of a checkpoint, where the run may go on with them."""
        now = self.batches.data
        if before == now:
            return ""
        words = f"the data have changed since {checkpoint}: they were {before}, and are {now}"
        if self.config.train.on_new_data == "stop":
            raise DataError(
                f"{words}. Set train.on_new_data = 'continue' to go on with them, give `train.out` "
                "another folder to start anew, or put the old manifest and cache back"
            )
        return words

    def run(self) -> None:
        """Train to the last step.

        Raises:
            TrainingStopped: A bad step, too many bad samples, or a signal; all is saved.
            DataError: DeepSpeed drives the optimizer.
        """
        if self.accelerator.distributed_type is DistributedType.DEEPSPEED:
            raise DataError(
                "DeepSpeed steps inside of the backward pass and keeps its moments to itself: no "
                "bad step could be refused, no run resumed; take recipes/accelerate/fsdp_8.yaml"
            )
        train = self.config.train
        loader = DataLoader(
            self.batches,
            batch_size=None,
            sampler=range(self.progress.step * train.accumulation, len(self.batches)),
            num_workers=train.workers,
            pin_memory=self.accelerator.device.type == "cuda",
            prefetch_factor=4 if train.workers else None,
        )
        started, waiting = time.perf_counter(), iter(loader)
        bar = tqdm(
            total=train.steps, initial=self.progress.step, mininterval=1.0,
            disable=not self.accelerator.is_main_process,
        )  # fmt: skip
        with self._signals(), bar:
            while self.progress.step < train.steps:
                parts = list(self._timed(islice(waiting, train.accumulation)))
                loss, norm = self.step(parts)
                bar.set_postfix_str(f"loss {loss:.4f}", refresh=False)
                bar.update()
                self._note(loss, norm)
                self._react()
        if self.progress.step % train.checkpoint_every:
            self.save()
        self.wait_share = self.waited_s / max(time.perf_counter() - started, 1e-9)

    def step(self, parts: list[Batch]) -> tuple[float, float]:
        """One optimizer step; returns the loss over all devices and the gradient's norm."""
        train, accelerator = self.config.train, self.accelerator
        self.network.train()
        total = torch.zeros((), device=accelerator.device)
        for number, batch in enumerate(parts):
            self._count(batch)
            last = number == len(parts) - 1
            with nullcontext() if last else accelerator.no_sync(self.network):
                loss = loss_of(self.network, batch.to(accelerator.device), self.config)
                accelerator.backward(loss / len(parts))
            total += loss.detach() / len(parts)
        mean: Any = accelerator.reduce(total, "mean")
        loss = float(mean)
        norm = accelerator.clip_grad_norm_(self.network.parameters(), train.max_grad_norm)
        norm = float(norm) if norm is not None else 0.0
        problem = self._problem(loss, norm)
        if problem is not None:
            self._refuse_step(problem, loss, parts)
        else:
            self.optimizer.step()
            self.average.update(self.progress.step)
            self.progress.recent = [*self.progress.recent, loss][-SPIKE_WINDOW:]
        self.optimizer.zero_grad(set_to_none=True)
        with warnings.catch_warnings():
            # torch warns where the very first step was refused.
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
            self.schedule.step()
        self.progress.step += 1
        return loss, norm

    def save(self) -> Path:
        """Write a checkpoint of now."""
        state = {
            "config": self.config.fingerprint(),
            "progress": as_plain(self.progress),
            "schedule": self.schedule.state_dict(),
            "data": self.batches.data,
        }
        self.accelerator.wait_for_everyone()
        return save_checkpoint(
            self.out,
            self.progress.step,
            self.accelerator.unwrap_model(self.network, keep_torch_compile=False)
            if self.accelerator.num_processes == 1
            else self.network,
            self.optimizer.optimizer,
            self.average,
            state,
            self.accelerator.is_main_process,
            self.config.train.keep_checkpoints,
        )

    def _problem(self, loss: float, norm: float) -> BadStep | None:
        """What is wrong with a step."""
        if not math.isfinite(loss):
            return BadStep.LOSS
        if not math.isfinite(norm):
            return BadStep.GRADIENT
        factor, recent = self.config.train.loss_spike, self.progress.recent
        if (
            factor
            and len(recent) >= SPIKE_WINDOW // 2
            and loss > factor * statistics.median(recent)
        ):
            return BadStep.SPIKE
        return None

    def _refuse_step(self, problem: BadStep, loss: float, parts: list[Batch]) -> None:
        """Leave the weights as they are; stop if the configuration says so."""
        names = sorted({name for batch in parts for name in batch.names})
        words = (
            f"step {self.progress.step}: {problem.value} ({loss:.4g}); clips {', '.join(names[:8])}"
        )
        if problem is not BadStep.SPIKE:
            words += f"; first bad layer: {first_bad_layer(self.network, parts, self.config)}"
        self.progress.skipped += 1
        self.metrics.add({"step": self.progress.step, "refused": words})
        train = self.config.train
        if (train.on_spike if problem is BadStep.SPIKE else train.on_nan) == "stop":
            self.optimizer.zero_grad(set_to_none=True)
            raise TrainingStopped(f"{words}. The last good state is {self.save()}")

    def _count(self, batch: Batch) -> None:
        """Name what could not be read, and stop when it is too much."""
        self.progress.samples += len(batch.names)
        self.progress.bad_samples += int((batch.weight == 0).sum())
        for failure in batch.failures:
            self.metrics.add({"step": self.progress.step, "unreadable": failure})
        share = self.progress.bad_samples / self.progress.samples
        allowed = self.config.train.max_bad_share
        # One bad sample is more than a share of the first few: judged once that means something.
        enough = self.progress.samples * allowed >= 1
        if self.progress.bad_samples and enough and share > allowed:
            raise TrainingStopped(
                f"{self.progress.bad_samples} of {self.progress.samples} samples could not be "
                f"read, more than train.max_bad_share allows; they are named in "
                f"{self.out / METRICS}. The state is {self.save()}"
            )

    def _note(self, loss: float, norm: float) -> None:
        if self.progress.step % self.config.train.log_every == 0:
            rate = self.schedule.get_last_lr()[0]
            step = self.progress.step
            self.metrics.add({"step": step, "loss": loss, "grad_norm": norm, "learning_rate": rate})
            self.accelerator.log({"loss": loss, "grad_norm": norm, "learning_rate": rate}, step)

    def _react(self) -> None:
        """Save, sample or stop, as the step, a file in the run's folder or a signal asks for."""
        train, step = self.config.train, self.progress.step
        asked = {name for name in (SAVE_NOW, SAMPLE_NOW) if (self.out / name).exists()}
        if self.stopping or SAVE_NOW in asked or step % train.checkpoint_every == 0:
            self.save()
        every = self.config.validate.every
        if self.validate and (SAMPLE_NOW in asked or (every and step % every == 0)):
            self.average.swap()
            try:
                self.validate(self.network, step)
            finally:
                self.average.swap()
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            for name in asked:
                (self.out / name).unlink(missing_ok=True)
        if self.stopping:
            raise TrainingStopped(
                f"{self.stopping} at step {step}: saved; the same command goes on from here",
                on_request=True,
            )

    def _timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            begun = time.perf_counter()
            batch = next(batches, None)
            self.waited_s += time.perf_counter() - begun
            if batch is None:
                return
            yield batch

    def _signals(self) -> ExitStack:
        """Within it, Ctrl-C and the system's request to end are answered after the step."""
        stack = ExitStack()

        def ask(number: int, _frame: Any) -> None:
            self.stopping = f"stopped by {signal.Signals(number).name}"

        for number in (signal.SIGINT, signal.SIGTERM):
            stack.callback(signal.signal, number, signal.signal(number, ask))
        return stack
