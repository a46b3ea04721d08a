"""`reconcile validate` and `reconcile schema`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from reconciler.cli.problems import as_data, render
from reconciler.cli.scripts import with_scripts_checked
from reconciler.cli.telling import fail
from reconciler.domain.loading import Loaded
from reconciler.model import schema as schemas
from reconciler.model.faults import Fault
from reconciler.model.manifests import KINDS
from reconciler.model.problems import Severity
from reconciler.record import files

JSON_VERSION = 1


@click.command(short_help="Check manifests, and say of each problem where and what to do.")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[PATH]…")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def validate(paths: Sequence[Path], as_json: bool) -> None:
    """Check manifests: their text, their fields, what they say of each other, and how they keep to the cookbook.

    Each PATH is a file, or a directory that is searched for *.yaml and *.yml; without one, manifests/ is, here or in a
    folder above. Names are looked up among everything that is given together, so give whole campaigns.

    Every problem is shown at once as file:line:column: CODE message, with the line, what was found, what was expected,
    and what was probably meant. Rules of the cookbook (CPT...) are looked at in campaigns with no other fault; what is
    waived is shown with its reason. No cluster is contacted.

    Exit status: 0 when valid (warnings, notes and what is waived allowed), 1 when not, 2 when the command itself is
    wrong.
    """
    loaded = with_scripts_checked(files.load(paths), paths)
    if as_json:
        click.echo(json.dumps(_report(loaded), indent=2))
    else:
        _show(loaded)
    sys.exit(0 if loaded.ok else 1)


@click.command(short_help="Print the JSON Schema of the manifests.")
@click.argument("kind", required=False, type=click.Choice(list(KINDS), case_sensitive=False))
@click.option(
    "--write",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write the schemas of all kinds, and the combined one, into DIR.",
)
def schema(kind: str | None, folder: Path | None) -> None:
    """Print the JSON Schema of one KIND, or the one for all kinds.

    For completion in an editor, begin a manifest with this line, the path being relative to the manifest:

    \b
        # yaml-language-server: $schema=../../schemas/cpt-v1.json
    """
    if folder is not None:
        if kind is not None:
            raise click.UsageError("--write writes the schemas of all kinds; leave KIND out.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in schemas.files().items():
                (folder / name).write_text(text, encoding="utf-8")
                click.echo(folder / name)
        except OSError as error:
            fail(Fault.NOT_WRITTEN, f"{folder} cannot be written: {error.strerror}")
        return
    name = f"{kind.lower()}.json" if kind else schemas.COMBINED
    click.echo(schemas.files()[name], nl=False)


def summary(loaded: Loaded) -> str:
    """`11 manifests valid in 5 files`, or `3 problems in 2 files`."""
    if not loaded.problems:
        return f"{_count(len(loaded.catalog.objects), 'manifest')} valid in {_count(len(loaded.files), 'file')}"
    touched = len({problem.where.file for problem in loaded.problems})
    if loaded.ok:
        valid = f"{_count(len(loaded.catalog.objects), 'manifest')} valid in {_count(len(loaded.files), 'file')}"
        open_ones = [problem for problem in loaded.problems if problem.waived is None]
        waived = len(loaded.problems) - len(open_ones)
        told = [
            _count(number, severity.value)
            for severity in (Severity.WARNING, Severity.NOTE)
            if (number := sum(problem.severity is severity for problem in open_ones))
        ]
        return ", ".join([valid, *told, *([f"{waived} waived"] if waived else [])])
    return f"{_count(len(loaded.problems), 'problem')} in {_count(touched, 'file')}"


def _show(loaded: Loaded) -> None:
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    if loaded.problems:
        click.echo(render(loaded.problems, loaded.texts, colour=colour) + "\n", color=colour)
    click.echo(summary(loaded))
    if any(problem.rule is not None for problem in loaded.problems):
        click.echo("Why, and what to do: reconcile explain CODE")


def _report(loaded: Loaded) -> dict[str, object]:
    return {
        "formatVersion": JSON_VERSION,
        "valid": loaded.ok,
        "files": len(loaded.files),
        "manifests": loaded.sound,
        "problems": [as_data(problem) for problem in loaded.problems],
    }


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
