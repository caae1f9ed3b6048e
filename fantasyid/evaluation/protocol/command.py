"""Makes a video of every reference with every prompt on a running ComfyUI, measures them, reports.

It can be stopped at any point: the same command goes on from there.
"""

from __future__ import annotations

import argparse
import errno
import json
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ...command_line import a_path
from ...face.recognizer import AUTO, CHOICES
from ...face.sources import DETECTORS
from ...weights.fingerprint import sha256_of_file
from ...whole_file import locked
from ..client import Host
from .hashes import model_files, remembered_sha256, sha256_of_code, sha256_of_value
from .html import make_report
from .journal import Journal, write_text
from .making import MADE
from .measuring import Meter, MeterSettings
from .opens2v import ABSENT, Item, plan_items, read_items, write_scores
from .plan import (
    Job,
    JobSettings,
    Reference,
    make_plan,
    read_prompts,
    read_references,
    with_settings,
)
from .run import Runner, measured_path
from .table import as_csv, as_json, as_markdown, make_rows, summarize
from .variants import FULL, VARIANTS
from .workflow import BUNDLED, DIALS, Graph, get_input, load_workflow, with_names

DONE, FAILED, USAGE, STOPPED = 0, 1, 2, 130
HOST = "http://127.0.0.1:8188"
PROTOCOLS = PAPER, OPENS2V = "paper", "opens2v-human"
DISK_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fantasyid.evaluate",
        description=__doc__,
        epilog="Exit status: 0 all done, 1 some videos failed or the host was lost, 2 wrong usage.",
    )
    add = parser.add_argument
    add("--references", type=a_path, required=True, metavar="DIR", help="photos, one person each")
    add("--prompts", type=a_path, required=True, metavar="FILE", help="text, one prompt per line")
    add(
        "--protocol",
        choices=PROTOCOLS,
        default=PAPER,
        help=f"{OPENS2V}: --prompts is Human-Domain_Eval.json of OpenS2V-Eval, --references the "
        "folder that holds its Images; one video per item, scores in OUT/opens2v",
    )
    add("--out", type=a_path, required=True, metavar="DIR", help="videos, values, report, journal")
    add(
        "--host",
        action="append",
        metavar="URL",
        help="a running ComfyUI, http://127.0.0.1:8188 where none is named; given more than once, "
        "they share the work, and one that is lost is done without",
    )
    add("--workflow", type=a_path, default=BUNDLED, metavar="FILE", help="another API workflow")
    add("--seeds", type=_numbers, metavar="N,N,...", help="by default the workflow's")
    for name in DIALS:
        kind = float if name == "cfg" else int
        add(f"--{name}", type=kind, metavar="N", help="by default the workflow's")
    add(
        "--set",
        type=_setting,
        action="append",
        default=[],
        metavar="NODE.INPUT=VALUE",
        help="any other input, such as CLIPLoader.clip_name=t5xxl_fp8_e4m3fn.safetensors",
    )
    add(
        "--variants",
        type=lambda text: text.split(","),
        default=[FULL],
        metavar="NAME,NAME,...",
        help=f"of: {', '.join(VARIANTS)}",
    )
    add("--ablations", action="store_true", help="all variants")
    add("--share-layer", type=int, default=0, metavar="N", help="of the variant shared-layer")
    add("--models", type=a_path, metavar="DIR", help="ComfyUI's folder models: recogniser, hashes")
    add("--recognizer", "--recogniser", choices=CHOICES, default=AUTO)
    add("--detector", choices=DETECTORS, default="auto", help="for measuring")
    add("--real", type=a_path, metavar="DIR", help="photos of real faces, for FID")
    add("--device", default="cpu", help="on which FM and FID are calculated: cpu, cuda, ...")
    return parser


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _setting(text: str) -> tuple[str, str, Any]:
    """`NODE.INPUT=VALUE`; a value that is no JSON is text."""
    place, equals, value = text.partition("=")
    class_type, dot, name = place.rpartition(".")
    if not (equals and dot and class_type and name):
        raise argparse.ArgumentTypeError(f'"{text}" is not NODE.INPUT=VALUE')
    try:
        return class_type, name, json.loads(value)
    except ValueError:
        return class_type, name, value


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, run what is not done, write the report."""
    options = _parser().parse_args(arguments)
    try:
        if options.models is not None and not options.models.is_dir():
            raise FileNotFoundError(f"--models: there is no folder {options.models}")
        graph, settings = _settings(options)
        items: list[Item] = []
        if options.protocol == OPENS2V:
            items = read_items(options.prompts, options.references)
            jobs = plan_items(graph, items, settings)
        else:
            references, prompts = read_references(options.references), read_prompts(options.prompts)
            jobs = make_plan(graph, references, prompts, settings)
        hosts = [Host(url) for url in dict.fromkeys(options.host or [HOST])]
        if options.out.is_file():
            raise ValueError(f"--out: {options.out} is a file, expected a folder")
        options.out.mkdir(parents=True, exist_ok=True)
        busy = ValueError(
            f"another run of this command works in {options.out}: wait for it, or give this one "
            "another --out"
        )
        with locked(options.out / "journal.lock", busy):
            return _run(options, graph, jobs, hosts, items)
    except (ValueError, OSError, ImportError) as error:
        full = isinstance(error, OSError) and error.errno in DISK_FULL
        words = f"the disk of {options.out} is full: free some space" if full else str(error)
        sys.stderr.write(f"{words}\n")
        if full:
            sys.stderr.write("Nothing is lost: the same command goes on from here.\n")
        return USAGE if isinstance(error, (ValueError, FileNotFoundError)) else FAILED
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command goes on from here\n")
        return STOPPED


def _settings(options: argparse.Namespace) -> tuple[Graph, JobSettings]:
    """The workflow with its settings, and what else is wished."""
    workflow = load_workflow(options.workflow)
    seed = get_input(workflow, "FantasyIDSampler", "seed", 42)
    settings = JobSettings(
        options.seeds or [seed],
        list(VARIANTS) if options.ablations else options.variants,
        options.share_layer,
        {name: getattr(options, name) for name in DIALS},
        {(class_type, name): value for class_type, name, value in options.set},
    )
    return with_settings(workflow, settings), settings


def _run(
    options: argparse.Namespace, graph: Graph, jobs: list[Job], hosts: list[Host], items: list[Item]
) -> int:
    journal = Journal(options.out / "journal.jsonl")
    choose = get_input(graph, "FantasyIDAlignFace", "choose", "nearest centre")
    settings = MeterSettings(
        options.models, options.recognizer, options.detector, choose, options.real, options.device
    )
    meter = Meter(settings, journal)
    runner = Runner(hosts, meter, journal, options.out)
    try:
        with closing(tqdm(total=len(jobs), unit="video", desc="made and measured")) as bar:
            runner.run(jobs, lambda _: bar.update())
    finally:
        report = _report(options, graph, jobs, journal, meter)
    if items:
        videos = [runner.video(job) for job in jobs]
        folder = write_scores(items, videos, meter, journal, options.out)
        sys.stdout.write(f"{ABSENT}\nOpenS2V-Eval: {folder}\n")
    rows = make_rows(jobs, journal, meter.id)
    sys.stdout.write(as_markdown(summarize(rows, _pooled(options, jobs, meter))))
    for words in meter.missing:
        sys.stdout.write(f"{words}\n")
    failed = [row for row in rows if row.failed]
    for row in failed:
        sys.stdout.write(f"{row.reference}, prompt {row.prompt}, seed {row.seed}: {row.note}\n")
    sys.stdout.write(f"Report: {report}\n")
    return FAILED if failed else DONE


def _report(
    options: argparse.Namespace, graph: Graph, jobs: list[Job], journal: Journal, meter: Meter
) -> Path:
    """Write table and report of what there is."""
    rows = make_rows(jobs, journal, meter.id)
    summaries = summarize(rows, _pooled(options, jobs, meter))
    facts = _facts(options, graph, jobs, journal, meter)
    sheets = {job.id: measured_path(job, meter, options.out).with_suffix(".jpg") for job in jobs}
    path = options.out / "report.html"
    write_text(options.out / "videos.csv", as_csv(rows))
    write_text(options.out / "table.md", as_markdown(summaries))
    write_text(options.out / "report.json", as_json(rows, summaries, facts))
    made_at = time.strftime("%Y-%m-%d %H:%M:%S %z")
    write_text(path, make_report(rows, summaries, facts, sheets, made_at))
    return path


def _pooled(options: argparse.Namespace, jobs: list[Job], meter: Meter) -> dict[str, float | None]:
    """FID of all videos of a variant together."""
    paths: dict[str, list[Path]] = {}
    for job in jobs:
        features = measured_path(job, meter, options.out).with_suffix(".safetensors")
        paths.setdefault(job.variant, []).append(features)
    return {variant: meter.pooled_fid(files) for variant, files in paths.items()}


def _facts(
    options: argparse.Namespace, graph: Graph, jobs: list[Job], journal: Journal, meter: Meter
) -> dict[str, Any]:
    """Whatever a second person needs to repeat it; nothing that differs from place to place."""
    references: dict[str, Reference] = {job.reference.name: job.reference for job in jobs}
    states = [journal.last("job", job.id) or {} for job in jobs]
    hashes: Any = "unknown: ComfyUI's folder models was not named with --models"
    if options.models is not None:
        hashes = {
            name: {p.name: remembered_sha256(p, journal) for p in paths} or "not in that folder"
            for name, paths in model_files(graph, options.models).items()
        }
    return {
        "command": _command(options),
        "missing": meter.missing,
        "prompts": list(dict.fromkeys(job.prompt for job in jobs)),
        "prompts_sha256": sha256_of_file(options.prompts),
        "references_sha256": {name: r.sha256 for name, r in references.items()},
        "seeds": list(dict.fromkeys(job.seed for job in jobs)),
        "share_layer": options.share_layer,
        "hosts": sorted({s["host"] for s in states if s.get("state") == MADE}),
        "model_files_sha256": hashes,
        "measured_with": {**meter.used, "recogniser_words": meter.words},
        "code_sha256": sha256_of_code(),
        "workflow_sha256": sha256_of_value(graph),
        "workflow": with_names(graph, "JOB"),
    }


def _command(options: argparse.Namespace) -> str:
    """The command line with the settings that decide, and places for the folders."""
    words = ["python -m fantasyid.evaluate --references DIR --prompts FILE --out DIR"]
    if options.protocol != PAPER:
        words.append(f"--protocol {options.protocol}")
    if options.workflow != BUNDLED:
        words.append("--workflow FILE")
    if options.seeds:
        words.append(f"--seeds {','.join(map(str, options.seeds))}")
    words += [f"--{n} {getattr(options, n):g}" for n in DIALS if getattr(options, n) is not None]
    for class_type, name, value in options.set:
        words.append(f"--set {shlex.quote(f'{class_type}.{name}={json.dumps(value)}')}")
    if options.ablations or options.variants != [FULL]:
        names = list(VARIANTS) if options.ablations else options.variants
        words.append(f"--variants {','.join(names)} --share-layer {options.share_layer}")
    words += [f"--{n} DIR" for n in ("models", "real") if getattr(options, n) is not None]
    words.append(f"--recogniser {shlex.quote(options.recognizer)} --detector {options.detector}")
    return " ".join([*words, f"--device {options.device}"])


if __name__ == "__main__":
    sys.exit(main())
