"""`reconcile ledger`: tokens drawn from every dataset, corpus and file, and which checkpoint has seen them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import click

from reconciler import loop
from reconciler.cli import machine
from reconciler.cli.human import ledger as view
from reconciler.cli.opening import Opened, connect, manifests_option, open_campaign
from reconciler.cli.screen import screen
from reconciler.cli.telling import fail
from reconciler.model.faults import Fault
from reconciler.model.observed import Unread
from reconciler.model.plan import Plan
from reconciler.model.problems import near, one_of
from reconciler.model.status import Reason
from reconciler.planner import ledger as books
from reconciler.planner.ledger import Answer, Asked, Books, Checkpoint, Contents
from reconciler.planner.lists import Lists, read_lists

POINT = re.compile(
    r"(?:[a-z0-9.-]{1,63}/)?(?P<attempt>[0-9a-f]{12})/leg-(?P<leg>[0-9]{1,4})/(?:global_step)?(?P<at>[0-9]{1,9})"
)


@click.command(short_help="Show what was drawn from every dataset, and which checkpoint has seen it.")
@click.argument("campaign", required=False)
@manifests_option
@click.option("--stage", help="The checkpoint at the end of this stage, instead of the campaign's newest.")
@click.option("--attempt", help="The newest checkpoint of this attempt.")
@click.option("--checkpoint", metavar="ATTEMPT/leg-N/ITERATION", help="This checkpoint, as its path in the workspace.")
@click.option("--corpus", metavar="LABEL", help="A dataset (D1), a corpus of one (D1.wiki), or of any (wiki).")
@click.option("--file", "file", metavar="PREFIX", help="A file of a data list, by the end of its path.")
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
def ledger(
    campaign: str | None,
    paths: tuple[Path, ...],
    stage: str | None,
    attempt: str | None,
    checkpoint: str | None,
    corpus: str | None,
    file: str | None,
    as_json: bool,
) -> int:
    """Show how many tokens were drawn from every dataset, and how many of them a checkpoint's weights have seen.

    Counted are all attempts that the workspace holds, discarded ones and pilots too, and iterations that were trained
    again after a kill. With --corpus or --file: how often that was seen, and which attempts would be tainted by its
    removal, because they drew from it or descend from one that did.
    """
    if sum(given is not None for given in (stage, attempt, checkpoint)) > 1:
        raise click.UsageError("--stage, --attempt and --checkpoint name one checkpoint; give one of them")
    if corpus is not None and file is not None:
        raise click.UsageError("--corpus and --file are two questions; ask one at a time")
    opened = open_campaign(paths, campaign)
    seen = loop.look(opened.desired, connect(opened), by=None)
    if isinstance(seen.observed.attempts, Unread):
        fail(Reason.WORKSPACE_UNREAD, f"the workspace could not be read: {seen.observed.attempts.why}")
    lists = read_lists(opened.desired, seen.observed)
    kept = books.books(opened.desired, seen.observed.attempts, lists.digests)
    point = _point(opened, kept, seen.plan, stage, attempt, checkpoint)
    asked = _asked(opened, kept, lists, point, corpus, file)
    labels = dict.fromkeys(label for part in kept.drawn for label in part.mixture)
    sizes = {label: lists.size(opened.desired, label) for label in labels}
    answer = Answer(opened.desired.campaign, kept, sizes, point, asked)
    if as_json:
        click.echo(machine.ledger_json(answer), nl=False)
    else:
        screen().print(view.render(answer))
    return 1 if kept.unknown else 0


def _point(
    opened: Opened, kept: Books, plan: Plan, stage: str | None, attempt: str | None, checkpoint: str | None
) -> Checkpoint | None:
    """The checkpoint that is meant; without one of the options the campaign's newest, or none before the first."""
    if checkpoint is not None:
        named = POINT.fullmatch(checkpoint)
        if named is None:
            fail(
                Fault.WRONG_USAGE,
                f"--checkpoint {checkpoint!r} is not of the form ATTEMPT/leg-N/ITERATION, as in the workspace",
            )
        return _checkpoint(kept, named["attempt"], (int(named["leg"]), int(named["at"])))
    if attempt is not None:
        return _checkpoint(kept, attempt)
    names = [of.metadata.name for of in opened.desired.stages]
    if stage is not None and stage not in names:
        meant = near(stage, names)
        fail(
            Fault.NO_SUCH_NAME,
            f"--stage {stage!r} is no stage of {plan.campaign}; there is {one_of(names)}",
            f"--stage {meant}" if meant else "",
        )
    if stage is None:
        return books.newest(kept, plan)
    status = next(status for status in plan.stages if status.stage == stage)
    entry = kept.entry(status.attempt)
    if entry is None or entry.end is None:
        fail(Fault.NO_SUCH_NAME, f"{stage} has no checkpoint yet")
    return _checkpoint(kept, status.attempt)


def _checkpoint(kept: Books, attempt: str, at: tuple[int, int] | None = None) -> Checkpoint:
    entry = kept.entry(attempt)
    if entry is None:
        known = [entry.attempt for entry in kept.entries]
        fail(
            Fault.NO_SUCH_NAME,
            f"the workspace has no attempt {attempt!r}" + (f"; it has {one_of(known)}" if known else ""),
        )
    leg, iteration = at or entry.end or fail(Fault.NO_SUCH_NAME, f"attempt {attempt} has no complete checkpoint")
    legs = kept.recipes[attempt].legs
    if leg >= len(legs) or iteration > legs[leg].iterations:
        lengths = ", ".join(f"leg-{number} of {of.iterations}" for number, of in enumerate(legs))
        fail(
            Fault.NO_SUCH_NAME,
            f"attempt {attempt} has no iteration {iteration} in leg-{leg}; in iterations, it is {lengths}",
        )
    stretches, origin = books.seen_by(kept, attempt, leg, iteration)
    return Checkpoint(entry.stage, attempt, leg, iteration, stretches, origin)


def _asked(
    opened: Opened, kept: Books, lists: Lists, point: Checkpoint | None, corpus: str | None, file: str | None
) -> Asked | None:
    name = corpus if corpus is not None else file
    if name is None:
        return None
    inside = books.of_corpus(name) if corpus is not None else books.of_file(name)
    contents = Contents(opened.desired, lists, inside)
    drawn = contents.part(kept.drawn)
    if not contents.found and not drawn.unknown:
        what = "corpus" if corpus is not None else "file"
        fail(
            Fault.NO_SUCH_NAME,
            f"no data list of the campaign has a {what} {name!r}",
            _meant(lists, name) if corpus is not None else "",
        )
    seen = contents.part(point.seen) if point is not None else None
    kind = "corpus" if corpus is not None else "file"
    return Asked(name, kind, contents.found, contents.size, drawn, seen, books.taints(kept, contents))


def _meant(lists: Lists, name: str) -> str:
    known: Sequence[str] = sorted(
        {*lists.read, *(label for data in lists.read.values() for label in set(data.corpora))}
    )
    meant = near(name, known)
    return f"--corpus {meant}" if meant else f"There is {one_of(known)}."
