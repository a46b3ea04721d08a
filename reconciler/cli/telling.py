"""What a command says on standard error when it stops, or could not do a part: always with a code."""

from __future__ import annotations

from typing import NoReturn

import click

from reconciler.cluster.ports import ClusterError
from reconciler.model.message import Code, coded
from reconciler.model.problems import harmless


def warn(code: Code, message: str, fix: str = "") -> None:
    """Say what could not be done, by a code that `reconcile explain` knows, and what to do; the command goes on."""
    click.echo(f"reconcile: {harmless(coded(message, code))}", err=True)
    if fix:
        click.echo(f"\n    {harmless(fix)}\n", err=True)


class Once:
    """Says each thing once, however often it is so: what is in the way for days is one line."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def say(self, told: str) -> None:
        """On standard error; the command goes on."""
        if told not in self._said:
            click.echo(f"reconcile: {harmless(told)}", err=True)
        self._said.add(told)


def fail(code: Code, message: str, fix: str = "") -> NoReturn:
    """Say what is wrong and what to do, and exit with status 1."""
    warn(code, message, fix)
    raise SystemExit(1)


def fail_at(error: ClusterError) -> NoReturn:
    """The same for what went wrong between here and the cluster."""
    fail(error.fault, str(error), error.fix)
