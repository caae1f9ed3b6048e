"""`python -m fantasyid.training curate | cache | check | train | export CONFIG.toml`."""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from ..command_line import a_path
from .config import Config
from .config_file import ConfigError, load_config

DONE, FAILED, USAGE, STOPPED = 0, 1, 2, 130
NEEDED = {
    "diffusers": "diffusers", "transformers": "transformers", "accelerate": "accelerate",
    "pyarrow": "pyarrow", "av": "av", "PIL": "pillow",
}  # fmt: skip


def say(text: str) -> None:
    """One line for the person at the terminal."""
    print(text, flush=True)


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(
        prog="python -m fantasyid.training",
        description="Train FantasyID: from a folder of clips to an adapter that the nodes load.",
        epilog="docs/training.md is the guide; recipes/ has a configuration for each usual case. "
        "Exit status: 0 done, 1 failed, 2 wrong usage, 130 stopped on request (all is saved).",
    )
    commands = top.add_subparsers(dest="command", required=True)
    for name, words in {
        "curate": "clips into a manifest: shots, faces, views, captions, reasons",
        "cache": "encode what the manifest names, once",
        "check": "look at everything and take one step, without keeping anything",
        "train": "train, or go on where the last run stopped",
        "export": "the newest checkpoint as files for the nodes",
    }.items():
        one = commands.add_parser(name, help=words, description=f"{words[0].upper()}{words[1:]}.")
        one.add_argument("config", type=a_path, help="the TOML file of the training")
        if name == "curate":
            one.add_argument(
                "--engine", choices=("pool", "ray"), default="pool",
                help="one machine's cores, or a Ray cluster (pip install .[training-cluster])",
            )  # fmt: skip
        if name == "cache":
            one.add_argument(
                "--webdataset", type=a_path, metavar="DIR", help="export tar shards too"
            )
        if name == "export":
            one.add_argument("target", type=a_path, help="the adapter's .safetensors file")
            one.add_argument("--raw", action="store_true", help="without the moving average")
            one.add_argument(
                "--dtype", choices=("float32", "bfloat16", "float16"), default="bfloat16"
            )
    return top


def curate(config: Config, options: argparse.Namespace) -> int:
    """Clips into a manifest."""
    from .curate.run import run_curation

    report = run_curation(config, options.engine, say)
    say(f"{report.kept} clips kept, {report.rejected} left out; why: {report.page}")
    return DONE if report.kept else FAILED


def cache(config: Config, options: argparse.Namespace) -> int:
    """Fill the cache."""
    from tqdm import tqdm

    from .cache import (
        PARTS,
        check_space,
        expected_bytes,
        export_webdataset,
        fill_cache,
        open_parts,
    )
    from .encoders import Encoders
    from .manifest import read_manifest

    rows, encoders = read_manifest(config.work / "curated"), Encoders(config.weights, config.cache)
    needed, there = expected_bytes(rows, config, encoders), open_parts(config, encoders, mend=True)
    missing = {
        name: sum(row.clip not in there[name] for row in rows) / len(rows)
        if name != "text"
        else 1.0
        for name in PARTS
    }
    for name in PARTS:
        say(f"  {name:9} {needed[name] / 1e6:10.1f} MB, {missing[name]:.0%} of it to be made")
    check_space(config, int(sum(needed[name] * missing[name] for name in PARTS)))
    failed: Counter[str] = Counter()
    with tqdm(total=4 * len(rows), unit="item") as bar:

        def note(key: str, why: str | None) -> None:
            bar.update()
            if why is not None:
                failed[key] += 1
                bar.write(f"left out: {why}")

        fill_cache(rows, config, encoders, note)
    if options.webdataset:
        export_webdataset(rows, open_parts(config, encoders), options.webdataset)
    say(f"{len(rows) - len(failed)} of {len(rows)} clips are cached in {config.work / 'cache'}")
    share = len(failed) / len(rows)
    return FAILED if share > config.train.max_bad_share else DONE


def check(config: Config, _options: argparse.Namespace) -> int:
    """One look at everything."""
    from .run import make_trainer

    trainer = make_trainer(config, validate=False)
    batches = trainer.batches
    trained = sum(p.numel() for p in trainer.network.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in trainer.network.parameters() if not p.requires_grad)
    say(f"{len(batches.people)} people or clips, {batches.order.steps_per_epoch} steps an epoch")
    say(f"{trained / 1e6:.1f} million parameters are trained, {frozen / 1e6:.1f} million are not")
    parts = [batches[part] for part in range(config.train.accumulation)]
    loss, norm = trainer.step(parts)
    say(f"one step: loss {loss:.4f}, gradient norm {norm:.3g}; nothing was kept")
    return DONE


def train(config: Config, _options: argparse.Namespace) -> int:
    """Train to the last step."""
    from .run import make_trainer

    trainer = make_trainer(config, validate=True)
    trainer.run()
    progress = trainer.progress
    say(
        f"{progress.step} steps done, {progress.skipped} left out, {progress.bad_samples} of "
        f"{progress.samples} samples unreadable; "
        f"waited for data {trainer.wait_share:.1%} of the time"
    )
    return DONE


def export(config: Config, options: argparse.Namespace) -> int:
    """Write the adapter."""
    import torch

    from .export import export as write

    say(f"written: {write(config, options.target, options.raw, getattr(torch, options.dtype))}")
    return DONE


COMMANDS = {"curate": curate, "cache": cache, "check": check, "train": train, "export": export}


def main(arguments: list[str] | None = None) -> int:
    """Run a command; what can be expected to go wrong ends in a sentence."""
    import importlib.util

    options = parser().parse_args(arguments)
    absent = [pip for name, pip in NEEDED.items() if importlib.util.find_spec(name) is None]
    if absent:
        print(f"training needs {', '.join(absent)}: pip install .[training]", file=sys.stderr)
        return FAILED
    from .manifest import DataError
    from .progress import TrainingStopped

    try:
        return COMMANDS[options.command](load_config(options.config), options)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return USAGE
    except TrainingStopped as error:
        print(error, file=sys.stderr)
        return STOPPED if error.on_request else FAILED
    except (DataError, ValueError) as error:
        print(error, file=sys.stderr)
        return FAILED
    except OSError as error:
        print(f"{error}; the same command goes on from here", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return STOPPED


if __name__ == "__main__":
    sys.exit(main())
