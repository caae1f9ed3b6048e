"""A run put together from its configuration: data, network, accelerate, validation."""

from __future__ import annotations

from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import set_seed

from .batches import Batches
from .cache import open_parts
from .config import Config
from .encoders import Encoders
from .loop import Trainer
from .manifest import read_manifest
from .network import build_network
from .validation import make_validation


def make_trainer(config: Config, validate: bool) -> Trainer:
    """The trainer of a configuration, resumed where its last run stopped.

    Args:
        validate: Whether to load what validation needs, and to write for TensorBoard.
    """
    accelerator = Accelerator(
        mixed_precision=config.train.precision,
        gradient_accumulation_steps=1,  # the loop accumulates by itself
        log_with="tensorboard" if _has("tensorboard") else None,
        project_dir=str(config.train.out),
        dataloader_config=DataLoaderConfiguration(dispatch_batches=False),
    )
    if validate:
        accelerator.init_trackers("tensorboard")
    deepspeed = accelerator.state.deepspeed_plugin
    if deepspeed is not None:  # it looks for them in a DataLoader that accelerate prepares
        parts = accelerator.num_processes * config.train.accumulation
        deepspeed.deepspeed_config |= {
            "train_micro_batch_size_per_gpu": config.train.batch_size // parts,
            "gradient_clipping": config.train.max_grad_norm,
        }
    set_seed(config.train.seed)
    rows = read_manifest(config.work / "curated")
    encoders = Encoders(config.weights, config.cache)
    parts, scale = open_parts(config, encoders), encoders.scale
    watch = make_validation(config, encoders) if validate and _validates(config) else None
    encoders.release()
    batches = Batches(
        config, rows, parts, scale, accelerator.process_index, accelerator.num_processes
    )
    return Trainer(config, accelerator, build_network(config), batches, watch)


def _validates(config: Config) -> bool:
    return bool(config.validate.every and config.validate.references and config.validate.prompts)


def _has(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is not None
