"""A notice: what a person is told when a stage is held, has failed a gate, is done, or is not what git says.

Every text of it is bounded and printable: some is a cluster's, and it goes to chat rooms and forges.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from reconciler.model.problems import clip

DESCRIPTION_CHARS_MAX: Final = 140
"""Of a commit status on GitHub."""
SAID_CHARS_MAX: Final = 1000


class Kind(StrEnum):
    """What people are told of; a closed set."""

    HOLD = "hold"
    """Nothing goes on until a person decides."""
    GATE_FAILED = "gate-failed"
    DONE = "done"
    DRIFT = "drift"
    """What is applied, on record or on the cluster is not what git says."""


class State(StrEnum):
    """How a commit stands by it, in the words of a commit status."""

    SUCCESS = "success"
    FAILURE = "failure"
    """A gate says so."""
    PENDING = "pending"
    """It goes on, or waits for a choice."""
    ERROR = "error"
    """Something is in the way."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to be told once."""

    key: str
    """What it is about: equal at every look, and for everybody who looks, while it is the same thing."""
    kind: Kind
    state: State
    campaign: str
    commit: str
    """That is applied; empty before the first."""
    said: str
    """What happened, in a sentence."""
    way_on: str = ""
    """What to do; empty where nothing is to be done."""
    stage: str = ""
    """Empty for the campaign as a whole."""
    strategy: str = ""
    attempt: str = ""
    reason: str = ""
    """`model.status.Reason` of the stage."""
    manifest: str = ""
    """`file:line` of what it is about, as the file was read."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    resolved: bool = False
    """A hold or drift that was told, and is over."""
    dirty: bool = False
    """Applied were manifests that the commit does not hold."""

    @property
    def context(self) -> str:
        """Whose commit status it is: the newest of a context counts."""
        return f"reconcile/{self.campaign}" + (f"/{self.stage}" if self.stage else "")

    @property
    def description(self) -> str:
        """What happened, short enough for a commit status."""
        return clip(self.said, DESCRIPTION_CHARS_MAX)

    @property
    def text(self) -> str:
        """For a chat: what happened where, and what to do."""
        mark = {State.SUCCESS: "✓", State.FAILURE: "✗", State.ERROR: "✗", State.PENDING: "…"}[self.state]
        where = f"commit {self.commit[:9] or 'none'}" + (" and uncommitted changes" if self.dirty else "")
        told = f"{mark} {self.campaign}: {clip(self.said, SAID_CHARS_MAX)} ({where})"
        return told + (f"\nTo go on: {clip(self.way_on, SAID_CHARS_MAX)}" if self.way_on else "")


def fields(notice: Notice, name: str) -> dict[str, str]:
    """What a command is told in words; `name` is the notice's own, equal when it is told again."""
    return {
        "id": name,
        "kind": notice.kind,
        "state": notice.state,
        "resolved": str(notice.resolved).lower(),
        "campaign": notice.campaign,
        "stage": notice.stage,
        "strategy": clip(notice.strategy),
        "attempt": clip(notice.attempt),
        "reason": notice.reason,
        "commit": notice.commit,
        "manifest": clip(notice.manifest, 400),
        "context": notice.context,
        "description": notice.description,
        "text": notice.text,
    }


def document(notice: Notice, name: str, text: str) -> bytes:
    """The notice as JSON; `text` is `Notice.text`, in the form of whoever shows it."""
    told = fields(notice, name)
    body = {
        **told,
        "text": text,
        "resolved": notice.resolved,
        "dirty": notice.dirty,
        "said": clip(notice.said, SAID_CHARS_MAX),
        "wayOn": clip(notice.way_on, SAID_CHARS_MAX),
        "numbers": {clip(number): value for number, value in notice.numbers.items() if math.isfinite(value)},
    }
    return json.dumps(body, indent=1).encode() + b"\n"


def for_chat(text: str) -> str:
    """The text of a notice where `&`, `<` and `>` are markup and `@name` calls somebody, as in Slack and its like: it
    makes no link and calls nobody."""
    for plain, shown in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("@", "@\u200b")):
        text = text.replace(plain, shown)
    return text
