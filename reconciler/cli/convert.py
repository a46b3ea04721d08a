"""`reconcile convert`: the checkpoint converter, by hand."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import click

from reconciler.convert.layout import PROGRAM

TORCH_MISSING = (
    "torch is not installed for this Python, and the converter reads and writes torch files.\n"
    "Install it with:\n    pip install 'cpt-reconciler[local]'\n"
    "or run the converter where the trainer's torch is:\n    python3 {program} SOURCE TARGET"
)


@click.command("convert", short_help="Convert a ZeRO checkpoint to a universal one.")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path), required=False)
@click.option(
    "--verify",
    is_flag=True,
    help="Convert nothing: repeat the verification of SOURCE, a finished result or the folder that holds it.",
)
@click.option(
    "--inert-class",
    "inert_classes",
    metavar="NAME",
    multiple=True,
    help="Let a pickle name this class; it is read as an empty shell and never imported. May be repeated.",
)
@click.option(
    "--no-weight-check",
    is_flag=True,
    help="Do not hold the master weights in the shards against the rounded ones in the model file.",
)
def convert(
    source: Path, target: Path | None, verify: bool, inert_classes: tuple[str, ...], no_weight_check: bool
) -> None:
    """Convert SOURCE, a global_stepN folder with ZeRO shards, so that any data-parallel size can load it.

    TARGET is the folder that will hold global_stepN_universal and latest_universal; by default the one SOURCE lies in.
    Every tensor is compared with the shards before anything is published, and receipt.json in the result says how each
    one was found. SOURCE is only read. A result that is already there and verified is left as it is.

    \b
    Examples:
      reconcile convert runs/stage1/global_step92859
      reconcile convert runs/stage1/global_step92859 runs/stage2/source
      reconcile convert --verify runs/stage1
    """
    if verify and target is not None:
        raise click.UsageError("--verify takes one path: a finished result, or the folder that holds it.")
    # Looked up, not imported: starting torch takes seconds, and the child below does it anyway.
    if importlib.util.find_spec("torch") is None:
        raise click.ClickException(TORCH_MISSING.format(program=PROGRAM))
    paths = ["--verify", str(source.absolute())] if verify else [str(source.absolute())]
    if not verify:
        paths.append(str((target or source.absolute().parent).absolute()))
    flags = [f"--inert-class={name}" for name in inert_classes] + ["--no-weight-check"] * no_weight_check
    child = subprocess.run([sys.executable, "-u", str(PROGRAM), *flags, *paths], check=False)
    raise SystemExit(child.returncode)
