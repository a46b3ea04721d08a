"""What may stand where the cursor is: campaigns, stages and clusters of the manifests, attempts on record, codes.

It is asked at every TAB, so it reads manifests without judging them and imports no command that it can do without. No
cluster is asked, nothing is written, and whatever cannot be read has no names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import click
from click.shell_completion import CompletionItem

Source = Callable[[], Iterator[tuple[str, str]]]
"""(word, what it is) of all that may stand in one place."""
ATTEMPT_PARTS: Final = 5
"""campaigns/CAMPAIGN/CLUSTER/STAGE/ATTEMPT, as docs/record.md has it."""


def campaigns() -> Iterator[tuple[str, str]]:
    """Of the manifests here."""
    return ((name, "") for kind, name, _ in _objects() if kind == "Campaign")


def clusters() -> Iterator[tuple[str, str]]:
    """Of the manifests here."""
    return ((name, "") for kind, name, _ in _objects() if kind == "Cluster")


def datasets() -> Iterator[tuple[str, str]]:
    """Of the manifests here."""
    return ((name, "") for kind, name, _ in _objects() if kind == "Dataset")


def stages() -> Iterator[tuple[str, str]]:
    """Of all campaigns here; each with its campaign's name."""
    return ((name, of) for kind, name, of in _objects() if kind == "Stage")


def stages_in_campaigns() -> Iterator[tuple[str, str]]:
    """As `render` takes them: CAMPAIGN/STAGE."""
    return ((f"{of}/{name}", "") for kind, name, of in _objects() if kind == "Stage")


def attempts() -> Iterator[tuple[str, str]]:
    """On the record, as this clone has it; each with its stage."""
    from reconciler.record.branch import NAME
    from reconciler.record.git import Git, GitFailed
    from reconciler.record.repository import working_tree_of

    root = working_tree_of(Path.cwd())
    if root is None:
        return
    git = Git(root)
    try:
        refs = git.text("for-each-ref", "--format=%(refname)", f"refs/heads/{NAME}", f"refs/remotes/*/{NAME}").split()
        folders = [git.text("ls-tree", "-r", "-d", "-z", "--name-only", ref, "campaigns/") for ref in refs]
    except GitFailed:
        return
    for folder in (path for told in folders for path in told.split("\0")):
        parts = folder.split("/")
        if len(parts) == ATTEMPT_PARTS and re.fullmatch(r"[0-9a-f]{12,64}", parts[-1]):
            yield parts[-1], parts[-2]


def codes() -> Iterator[tuple[str, str]]:
    """All that `reconcile explain` has a page on."""
    from reconciler.cli.messages import catalogue

    return ((code, entry.title) for code, entry in catalogue().items())


ARGUMENTS: Final[Mapping[str, tuple[Source, ...]]] = {
    "plan": (campaigns,),
    "simulate": (campaigns,),
    "apply": (campaigns,),
    "status": (campaigns,),
    "watch": (campaigns,),
    "report": (campaigns,),
    "why": (stages, campaigns),
    "history": (stages,),
    "show": (attempts,),
    "ledger": (campaigns,),
    "checkpoints": (stages, campaigns),
    "doctor": (clusters,),
    "render": (stages_in_campaigns,),
    "explain": (codes,),
    "local": (campaigns,),
}
"""Of each command the arguments that have names to choose from, in order."""
OPTIONS: Final[Mapping[str, Source]] = {
    "--campaign": campaigns,
    "--cluster": clusters,
    "--stage": stages,
    "--retry": stages,
    "--attempt": attempts,
    "--after": stages,
    "--dataset": datasets,
    "--gate-fails": stages,
}
"""Likewise of options, which have one meaning in every command."""


def words(source: Source) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """A source as click asks it: what begins as the word does, each once."""

    def offered(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        found = {word: what for word, what in source() if word.startswith(incomplete) and word.isprintable()}
        return [CompletionItem(word, help=what or None) for word, what in found.items()]

    return offered


def outline(name: str) -> click.Command | None:
    """A command with nothing but its arguments, where these are enough: the line has no option in it. None where the
    command itself has to be imported, which takes longer."""
    line = os.environ.get("COMP_WORDS", "-")
    if name not in ARGUMENTS or any(word.startswith("-") for word in line.split()):
        return None
    arguments = [
        click.Argument([f"argument-{at}"], required=False, shell_complete=words(source))
        for at, source in enumerate(ARGUMENTS[name])
    ]
    return click.Command(name, params=list(arguments))


def completed(command: click.Command, name: str) -> click.Command:
    """The command, whose arguments and options know what may stand there."""
    sources = iter(ARGUMENTS.get(name, ()))
    for parameter in command.params:
        source: Source | None = None
        if isinstance(parameter, click.Argument):
            source = next(sources, None)
        else:
            source = next((OPTIONS[option] for option in parameter.opts if option in OPTIONS), None)
        if source is not None and not isinstance(parameter.type, click.Choice):
            parameter.shell_complete = _asking(source)  # type: ignore[method-assign,assignment]
    return command


def _asking(source: Source) -> Callable[[click.Context, str], list[CompletionItem]]:
    ask = words(source)
    return lambda ctx, incomplete: ask(ctx, click.Option(["--any"]), incomplete)


# --- what the manifests hold


def _objects() -> Iterator[tuple[str, str, str]]:
    """(kind, name, campaign) of everything in the manifests here, as far as it can be read."""
    from reconciler.model import source
    from reconciler.record import files

    contents, _ = files.read(files.given_or_nearest(()))
    for name, content in contents:
        for document in source.read(name, content).documents:
            match document.data:
                case {"kind": str(kind), "metadata": {"name": str(called)}, "spec": {**spec}}:
                    yield kind, called, str(spec.get("campaign", ""))
                case _:
                    pass
