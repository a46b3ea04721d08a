"""`reconcile show`: what one attempt's checkpoints are made of, and whether it can be made again from the manifests."""

from __future__ import annotations

import re
from pathlib import Path

import click

from reconciler.cli import machine
from reconciler.cli.human import shown as view
from reconciler.cli.onrecord import OnRecord, open_record
from reconciler.cli.opening import manifests_option
from reconciler.cli.reproducing import again
from reconciler.cli.screen import screen
from reconciler.cli.telling import fail
from reconciler.model.faults import Fault
from reconciler.model.observed import AttemptSeen
from reconciler.model.problems import clip, one_of
from reconciler.planner.recalled import Recalled
from reconciler.planner.shown import shown

NAMED = re.compile(r"(?:[a-z0-9.-]{1,63}/)*(?P<attempt>[0-9a-f]{4,12})(?:/.*)?")


@click.command(short_help="Show what an attempt's checkpoints are made of, and make it again.")
@click.argument("attempt")
@manifests_option
@click.option("--json", "as_json", is_flag=True, help="All of it as JSON on standard output.")
def show(attempt: str, paths: tuple[Path, ...], as_json: bool) -> int:
    """Show which data, weights, learning rate, source and code an attempt's checkpoints are made of.

    ATTEMPT is its name or the first digits of it, or a path that holds it, such as a checkpoint's. Read from the record
    that `apply` keeps; no cluster is asked. The recipe and the job scripts are made again from the manifests of the
    commit, and compared byte for byte; where they come to something else that is said, and the exit status is 1.
    """
    record = open_record(paths)
    recalled, seen = _named(record, attempt)
    wrote = record.wrote({done.receipt.commit for done in recalled.of(seen.attempt)})
    try:
        found = shown(recalled, seen, {name: (commit.author, commit.subject) for name, commit in wrote.items()})
    except ValueError as problem:
        fail(Fault.NOT_ON_RECORD, f"attempt {seen.attempt} of {seen.stage} cannot be shown: {problem}")
    made = again(record, recalled, recalled.recipes[seen.attempt])
    if as_json:
        click.echo(machine.shown_json(found, made), nl=False)
    else:
        screen().print(view.render(found, made))
    return 0 if all(each.same for each in made) else 1


def _named(record: OnRecord, text: str) -> tuple[Recalled, AttemptSeen]:
    """The one attempt on record that is meant."""
    known = [(recalled, seen) for recalled in record.every() for seen in recalled.attempts]
    named = NAMED.fullmatch(text)
    found = [each for each in known if named is not None and each[1].attempt.startswith(named["attempt"])]
    if len(found) == 1:
        return found[0]
    names = [f"{seen.attempt} ({seen.stage}, {recalled.name})" for recalled, seen in found or known]
    if found:
        fail(Fault.NAME_NEEDED, f"{clip(text, 60)} is more than one attempt on record: {one_of(names)}")
    there = f"There is {one_of(names)}." if names else "No attempt is."
    fail(Fault.NOT_ON_RECORD, f"attempt {clip(text, 60)} is not on record. {there}", "reconcile history")
