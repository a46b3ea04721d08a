"""Every code that this program says to a person, as one catalogue, for `reconcile explain` and docs/messages.md."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

from reconciler.domain.mixture import MEANINGS as MIXTURE
from reconciler.domain.rules.check import BY_CODE
from reconciler.domain.rules.rule import Rule
from reconciler.launcher.codes import ERRORS as LAUNCHER_ERRORS
from reconciler.launcher.codes import MEANINGS as LAUNCHER
from reconciler.model.faults import Fault
from reconciler.model.problems import CATALOGUE
from reconciler.model.reasons import GOES_ON, MEANINGS, WAYS_ON
from reconciler.model.remedies import REMEDIES
from reconciler.model.status import PASSING, Reason

WARNING_ONLY: Final = frozenset(
    {
        Fault.CHECKPOINT_LOST,
        Fault.HISTORY_REWRITTEN,
        Fault.RECORD_DIFFERS,
        Fault.RECORD_NOT_KEPT,
        Fault.NOT_PROPOSED,
        Fault.NOT_TOLD,
        Fault.PACE_NOT_SHARED,
    }
)
"""Faults beside which a command goes on."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One code, as its page shows it."""

    code: str
    kind: str
    """`error`, `warning`, `note`, `wait`, `hold` or `step`."""
    title: str
    meaning: str
    """What else there is to say of it; may be empty."""
    todo: str
    see: str
    """Page of the documentation with more, perhaps with an anchor."""
    rule: Rule | None = None
    """Of the cookbook: has sources and examples too."""


@dataclass(frozen=True, slots=True)
class Family:
    """Codes of one kind of thing."""

    title: str
    about: str
    entries: tuple[Entry, ...]


@cache
def families() -> tuple[Family, ...]:
    """All codes, family by family."""
    return (
        Family(
            "A command stops, or could not do a part",
            "The code stands at the end of the line that begins with `reconcile:`, and with what a plan refuses.",
            tuple(_fault(fault) for fault in Fault),
        ),
        Family(
            "A stage waits",
            "Until the next look. The code stands before the message in `plan`, `status` and `why`.",
            tuple(_reason(reason) for reason in Reason if _kind(reason) == "wait"),
        ),
        Family(
            "A stage is held",
            "Until a person decides.",
            tuple(_reason(reason) for reason in Reason if _kind(reason) == "hold"),
        ),
        Family(
            "A stage goes on",
            "Why an action is due, or why there is none any more.",
            tuple(_reason(reason) for reason in Reason if _kind(reason) == "step"),
        ),
        Family("Rules of the cookbook", "Advice, which may be waived with a reason.", tuple(_rules())),
        Family(
            "Manifests",
            "What cannot be read or carried out. It cannot be waived.",
            tuple(_problems()),
        ),
        Family(
            "Launch scripts",
            "What `lint-script` finds, and what keeps a rendered script from being submitted.",
            tuple(_launcher()),
        ),
        Family("Mixtures of data lists", "What `mix` refuses or tells.", tuple(_mixtures())),
    )


@cache
def catalogue() -> dict[str, Entry]:
    """Code → entry."""
    return {entry.code: entry for family in families() for entry in family.entries}


@cache
def known() -> dict[str, str]:
    """Everything that can be asked for → the code it leads to: codes, and rules by their names."""
    names = {entry.rule.name: code for code, entry in catalogue().items() if entry.rule is not None}
    return names | {code: code for code in catalogue()}


def _fault(fault: Fault) -> Entry:
    kind = "warning" if fault in WARNING_ONLY else "error"
    return Entry(fault, kind, fault.says, fault.meaning, fault.todo, fault.see)


def _kind(reason: Reason) -> str:
    if reason in GOES_ON:
        return "step"
    return "wait" if reason in PASSING or reason is Reason.SOURCE_NOT_DONE else "hold"


def _reason(reason: Reason) -> Entry:
    title, _, more = MEANINGS[reason].partition(". ")
    todo = WAYS_ON[reason].format(campaign="CAMPAIGN", stage="STAGE", blocker="STAGE")
    return Entry(reason, _kind(reason), title.rstrip("."), more, todo, "commands.md#reconcile-why")


def _rules() -> Iterator[Entry]:
    for code, rule in BY_CODE.items():
        anchor = f"{code}-{rule.name}".lower()
        yield Entry(code, rule.severity.value, rule.summary, rule.why, rule.todo, f"rules.md#{anchor}", rule)


def _problems() -> Iterator[Entry]:
    for code, kind in CATALOGUE.items():
        yield Entry(code, kind.severity.value, kind.summary, kind.explanation, REMEDIES[code], "manifests.md")


def _launcher() -> Iterator[Entry]:
    todo = "The `help` line has what to write instead. In a rendered script it is the template that has to be mended."
    for code, text in LAUNCHER.items():
        error = code in LAUNCHER_ERRORS
        meaning = (
            "The launcher would stop, start from random weights, start over, or train nothing."
            if error
            else "It runs, and most likely does something else than was meant."
        )
        title = f"{text[:1].upper()}{text[1:]}"
        yield Entry(code, "error" if error else "warning", title, meaning, todo, "lint-script.md")


def _mixtures() -> Iterator[Entry]:
    for code, text in MIXTURE.items():
        notice = code >= "MIX100"
        told = "Nothing, if that is what was meant." if notice else "Mend what the message names; nothing was written."
        title, _, more = text.partition(". ")
        yield Entry(code, "note" if notice else "error", title.rstrip("."), more, told, "commands.md#reconcile-mix")
