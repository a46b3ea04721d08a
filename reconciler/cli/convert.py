"""`reconcile convert` and `reconcile verify`: the checkpoint converter, by hand."""

from __future__ import annotations

from pathlib import Path

import click

from reconciler.convert import universal
from reconciler.convert.workers import default_workers

workers_option = click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=default_workers,
    show_default="one per processor, 8 at most",
    help="Processes that read and write at once.",
)
inert_option = click.option(
    "--inert-class",
    "inert_classes",
    metavar="NAME",
    multiple=True,
    help="Let a pickle name this class; it is read as an empty shell and never imported. May be repeated.",
)


@click.command("convert", short_help="Convert a ZeRO checkpoint to a universal one.")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path), required=False)
@workers_option
@click.option(
    "--for-data-parallel",
    metavar="N",
    type=click.IntRange(min=1),
    help="Warn if DeepSpeed could not load the result at this data-parallel size, and name sizes where it can.",
)
@inert_option
@click.option(
    "--no-weight-check",
    is_flag=True,
    help="Do not hold the master weights in the shards against the rounded ones in the model file.",
)
def convert(
    source: Path,
    target: Path | None,
    workers: int,
    for_data_parallel: int | None,
    inert_classes: tuple[str, ...],
    no_weight_check: bool,
) -> None:
    """Convert SOURCE, a global_stepN folder with ZeRO-1 or ZeRO-2 shards, so that any data-parallel size can load it.

    TARGET is the folder that will hold global_stepN_universal and latest_universal; by default the one SOURCE lies in.
    Tensor- and pipeline-parallel checkpoints are merged. Every tensor is read back and compared with the shards before
    anything is published, and receipt.json in the result says how each one was found. SOURCE is only read. What a
    killed run had finished is taken up by the next; a result that is already there and verified is left as it is.

    \b
    Examples:
      reconcile convert runs/stage1/global_step92859
      reconcile convert runs/stage1/global_step92859 runs/stage2/source --for-data-parallel 768
    """
    where = (target or source.absolute().parent).absolute()
    options = universal.Options(tuple(inert_classes), not no_weight_check, workers, for_data_parallel or 0)
    raise SystemExit(universal.told(lambda: universal.convert(source.absolute(), where, options)))


@click.command("verify", short_help="Verify a universal checkpoint again.")
@click.argument("path", type=click.Path(path_type=Path))
@workers_option
@inert_option
def verify(path: Path, workers: int, inert_classes: tuple[str, ...]) -> None:
    """Repeat the verification of PATH, a result of `reconcile convert` or the folder that holds it.

    Every file and the count, shape, type and digest of every tensor are held against receipt.json, and against the
    shards themselves where the source is still there. Nothing is changed.

    \b
    Examples:
      reconcile verify runs/stage2/source
      reconcile verify runs/stage2/source/global_step92859_universal
    """
    raise SystemExit(universal.told(lambda: universal.verify(path.absolute(), tuple(inert_classes), workers)))
