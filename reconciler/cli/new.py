"""`reconcile new stage`: a further stage of a campaign, written and listed at its place."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Final

import click

from reconciler.cli import questions
from reconciler.cli.newfiles import must_be_free, replace_whole, unwrite, write_new
from reconciler.cli.opening import choose, manifests_option, read
from reconciler.cli.problems import render as render_problems
from reconciler.cli.scripts import with_scripts_checked
from reconciler.cli.telling import fail
from reconciler.domain import loading
from reconciler.domain.catalog import Catalog
from reconciler.model.commented import documents
from reconciler.model.faults import Fault
from reconciler.model.fieldtypes import SYMBOL_PATTERN
from reconciler.model.inserting import NotInserted, with_stage
from reconciler.model.manifests import StageManifest
from reconciler.model.problems import near, one_of
from reconciler.model.quantities import Unreadable, format_walltime, parse_tokens
from reconciler.record import files
from reconciler.scaffold.answers import Data
from reconciler.scaffold.ladder import Before, Ladder, Rung, enough, ladder, mix, naive, replay
from reconciler.scaffold.stage import Beginning, Job, after_stage, dataset, stage

STRATEGIES: Final = "naive, mix-a, mix-b, or replay-N for N % of the pretraining data"
ELSEWHERE: Final = "Give the stage another name."


@dataclass(frozen=True, slots=True)
class New:
    """The stage that is wanted."""

    name: str
    campaign: str
    after: StageManifest
    data: Data
    symbol: str
    is_new: bool
    """Whether the dataset has no manifest yet."""


@click.command(short_help="Add a stage to a campaign.")
@click.argument("kind", metavar="stage", type=click.Choice(["stage"]))
@click.argument("name")
@click.option("--campaign", "-c", help="Campaign it belongs to, where there are several.")
@manifests_option
@click.option("--after", metavar="STAGE", help="Stage it goes on from.  [default: the last one]")
@click.option("--dataset", "of", metavar="NAME", help="Its new data, by a Dataset that is there.")
@click.option("--data", metavar="NAME=PATH:TOKENS", help="Its new data, by a data list on the cluster.")
@click.option("--strategy", "wanted", multiple=True, metavar="NAME", help=f"A rung, in order: {STRATEGIES}.")
@click.option("--strong", is_flag=True, help="The new data is far from the old.")
@click.option("--tokens", metavar="TOKENS", help="Budget.  [default: a pass over the new data]")
def new(
    kind: str,
    name: str,
    campaign: str | None,
    paths: tuple[Path, ...],
    after: str | None,
    of: str | None,
    data: str | None,
    wanted: tuple[str, ...],
    strong: bool,
    tokens: str | None,
) -> int:
    """Write a new stage, with its dataset if that is new, and list it in its campaign.

    The stage goes into NAME.yaml beside the campaign, with comments that say what each field is; in the campaign's
    file one name is added, and nothing else of it changes. Without --strategy the ladder is the cookbook's for the size
    of the new data. Nothing is written that `reconcile validate` would refuse, and no file is written over.

    \b
        reconcile new stage code --data code=/data/lists/code.txt:300B
        reconcile new stage code --after papers --dataset code --strategy replay-30 --strategy mix-a
    """
    catalog = read(paths)
    wish = _wish(catalog, choose(catalog, campaign), name, after, of, data)
    course = _course(catalog, wish, wanted, tokens, strong=strong)
    file = Path(catalog.where(catalog.campaign(wish.campaign)).file)
    added = f"{name}.yaml"
    must_be_free(file.parent, [added], ELSEWHERE)
    old = file.read_bytes()
    try:
        listed = with_stage(old, wish.campaign, name, wish.after.metadata.name)
    except NotInserted as error:
        fail(Fault.NOT_WRITTEN, f"{file}: {error}; nothing was", f"Add {name} to spec.stages by hand first.")
    text = _text(catalog, wish, course, old)
    _must_validate(paths, file, listed, file.parent / added, text)
    made = write_new(file.parent, {added: text}, ELSEWHERE)
    try:
        _replaced(file, old, listed)
    except OSError as error:
        unwrite(made)
        fail(Fault.NOT_WRITTEN, f"{file} cannot be written: {error.strerror}; nothing was")
    click.echo(_summary(catalog, wish, file, made[0], "".join(f" -f {shlex.quote(str(path))}" for path in paths)))
    return 0


# --- what is wanted


def _wish(catalog: Catalog, campaign: str, name: str, after: str | None, of: str | None, data: str | None) -> New:
    name = questions.given(name, "NAME", questions.name)
    if name in catalog.stage_names(campaign):
        fail(Fault.NOT_WRITTEN, f"there is a stage {name} of {campaign} already", ELSEWHERE)
    stages = {each.metadata.name: each for each in catalog.stages(campaign)}
    if after is not None and after not in stages:
        _no_such("stage", after, list(stages))
    behind = stages[after] if after is not None else list(stages.values())[-1]
    if (of is None) is (data is None):
        raise click.UsageError("the stage's new data: one of --dataset NAME and --data NAME=PATH:TOKENS.")
    if of is not None:
        if of not in catalog.dataset_names:
            _no_such("dataset", of, sorted(catalog.dataset_names))
        there = catalog.dataset(of).spec
        return New(name, campaign, behind, Data(of, "", there.tokens), there.symbol, is_new=False)
    told = _data(data or "", catalog, campaign)
    if told.name in catalog.dataset_names:
        fail(Fault.NOT_WRITTEN, f"there is a dataset {told.name} already", f"--dataset {told.name}, or another NAME=")
    numbers = [int(symbol[1:]) for symbol in catalog.datasets(campaign) if re.fullmatch(SYMBOL_PATTERN, symbol)]
    return New(name, campaign, behind, told, f"D{max(numbers, default=-1) + 1}", is_new=True)


def _data(text: str, catalog: Catalog, campaign: str) -> Data:
    transport = catalog.cluster_of(campaign).spec.transport
    read_path = questions.path if getattr(transport, "root", None) else questions.absolute
    try:
        return questions.data(read_path)(text)
    except click.BadParameter as error:
        raise click.UsageError(f"--data: {error.message}") from error


def _no_such(what: str, name: str, known: Sequence[str]) -> None:
    meant = near(name, known)
    hint = f"Did you mean {meant}?" if meant else f"There is {one_of(known)}."
    fail(Fault.NO_SUCH_NAME, f"there is no {what} {name!r} here. {hint}")


def _course(catalog: Catalog, wish: New, wanted: Sequence[str], tokens: str | None, *, strong: bool) -> Ladder:
    before = _before(catalog, wish)
    course = ladder(wish.symbol, wish.data.tokens, before, cools=_is_last(catalog, wish), strong=strong)
    if wanted:
        base = next(iter(before.sizes), wish.symbol)
        first, *others = (_rung(each, wish.symbol, base) for each in wanted)
        rungs = (replace(first, when=""), *others)  # nothing before it can have failed
        size = wish.data.tokens
        course = replace(course, rungs=rungs, tokens=enough(size, wish.symbol, rungs))
    if tokens is not None:
        try:
            course = replace(course, tokens=parse_tokens(tokens))
        except Unreadable as error:
            raise click.UsageError(f"--tokens: {error}") from error
    return course


def _rung(name: str, symbol: str, base: str) -> Rung:
    share = re.fullmatch(r"replay-([1-9][0-9]?)", name)
    if share is not None:
        return replay(int(share[1]), symbol, base)
    if name in ("mix-a", "mix-b"):
        return mix(name, symbol, base)
    if name != "naive":
        raise click.UsageError(f"--strategy: there is {STRATEGIES}.")
    return naive(symbol)


def _before(catalog: Catalog, wish: New) -> Before:
    after, datasets = wish.after.metadata.name, catalog.datasets(wish.campaign)
    symbols = [symbol for symbol in catalog.introduced(wish.campaign, after) if symbol != wish.symbol]
    buffered = bool(catalog.buffer_at(wish.campaign, after)) or catalog.dataset_of(wish.after).spec.symbol != "D0"
    sizes = {symbol: datasets[symbol].spec.tokens for symbol in symbols}
    return Before(sizes, buffered, rewarm=_has_decayed(wish.after))


def _has_decayed(of: StageManifest) -> bool:
    """Whether some strategy of the stage leaves no checkpoint at LR max."""
    return any(all(leg.lr.shape != "constant" for leg in rung.legs) for rung in of.spec.strategies)


def _is_last(catalog: Catalog, wish: New) -> bool:
    return catalog.stages(wish.campaign)[-1] is wish.after


# --- written


def _text(catalog: Catalog, wish: New, course: Ladder, beside: bytes) -> str:
    before = _before(catalog, wish)
    model, cluster = catalog.model_of(wish.campaign).spec, catalog.cluster_of(wish.campaign).metadata.name
    source = after_stage(wish.after.metadata.name, decayed=before.rewarm)
    begin = Beginning(wish.campaign, wish.data.name, source, before)
    resources = wish.after.spec.resources
    job = Job(resources.nodes, _walltime(resources.walltime))
    total = course.tokens + sum(each.spec.tokens for each in catalog.stages(wish.campaign))
    trees = [stage(wish.name, begin, course, job, of_last=total if _is_last(catalog, wish) else None)]
    if wish.is_new:
        tokenizer = (model.tokenizer.type, model.tokenizer.model)
        trees.insert(0, dataset(wish.data.name, wish.symbol, wish.data.tokens, tokenizer, {cluster: wish.data.path}))
    modeline = re.match(rb"# yaml-language-server: \$schema=[^\r\n]*", beside)
    heading = modeline[0].decode("utf-8", "replace") + "\n" if modeline is not None else ""
    return documents(trees, heading)


def _walltime(seconds: Fraction) -> str:
    for unit, letter in ((3600, "h"), (60, "m"), (1, "s")):
        if seconds % unit == 0:
            return f"{seconds // unit}{letter}"
    return format_walltime(int(seconds))


def _must_validate(paths: tuple[Path, ...], campaign: Path, listed: bytes, added: Path, text: str) -> None:
    """Nothing is written that `reconcile validate` would refuse; what it only warns of is shown."""
    contents, found = files.read(files.given_or_nearest(paths))
    edited = [(name, listed if name == str(campaign) else content) for name, content in contents]
    loaded = with_scripts_checked(loading.load([*edited, (str(added), text.encode())], found), paths)
    ours = (str(campaign), str(added))
    told = [p for p in loaded.problems if p.refuses or (p.where.file in ours and p.waived is None)]
    if told:
        click.echo(render_problems(told, loaded.texts, colour=sys.stderr.isatty()) + "\n", err=True)
    if not loaded.ok:
        fail(Fault.MANIFESTS_FAULTY, "with this stage the manifests would not be valid; nothing was written")


def _replaced(file: Path, old: bytes, text: bytes) -> None:
    """The file's new text, whole or not at all; a link to it stays one."""
    target = Path(os.path.realpath(file))
    if target.read_bytes() != old:
        raise OSError(0, "it was changed meanwhile")
    replace_whole(target, text)


def _summary(catalog: Catalog, wish: New, campaign: Path, added: Path, where: str) -> str:
    after = wish.after.metadata.name
    lines = [f"Stage {wish.name} of {wish.campaign}, after {after}: {added}; listed in {campaign}. Valid."]
    order = [each.metadata.name for each in catalog.stages(wish.campaign)]
    if not _is_last(catalog, wish):
        lines.append(f"{order[order.index(after) + 1]} still goes on from where it did: see its source.")
    if wish.is_new:
        lines.append(f"{wish.symbol} has no validation set: add one to the Model before the stage is trained.")
    named = " ".join(shlex.quote(str(path)) for path in (campaign, added))
    lines += [
        "Read it, then:",
        "",
        f"    git add {named} && git commit -m 'Add stage {wish.name}'",
        f"    reconcile plan {wish.campaign}{where}",
        "",
    ]
    return "\n".join(lines)
