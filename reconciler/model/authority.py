"""Which commits of a campaign may be applied: the rule, what git says of a commit, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import model_validator

from reconciler.model.fieldtypes import BranchName, Frozen


class Authority(Frozen):
    """Which commits are applied. It holds until a commit that keeps to it has changed it: see docs/authority.md."""

    signed: bool = False
    """Only a commit with a signature that whoever applies trusts, by their own git and its keys."""
    reviewed: BranchName | None = None
    """Only a commit that this branch of the remote was at, such as main: one that the forge protects."""

    @model_validator(mode="after")
    def _asks_for_something(self) -> Authority:
        if not self.signed and self.reviewed is None:
            raise ValueError("neither signed nor reviewed: leave authority out, and every commit may be applied")
        return self


@dataclass(frozen=True, slots=True)
class Demand:
    """What must be so of a commit before it is applied, and whose rule that is, in words."""

    signed: tuple[str, ...] = ()
    """Who asks for a signature; nobody if it is empty."""
    reviewed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Branch → who asks that the commit was on it."""
    unread: str = ""
    """Why it is not known whether more is asked for; empty where it is."""

    @property
    def anything(self) -> bool:
        """Whether git has to be asked."""
        return bool(self.signed or self.reviewed)


class Signed(StrEnum):
    """What came of checking a commit's signature."""

    GOOD = "good"
    NONE = "none"
    BAD = "bad"
    """It does not fit the commit, or its key was revoked."""
    UNTRUSTED = "untrusted"
    """It fits, and nobody has said that its key counts."""
    EXPIRED = "expired"
    UNCHECKED = "unchecked"
    """There is no telling: no key, no program, no list of signers."""


@dataclass(frozen=True, slots=True)
class Signature:
    """A commit's signature."""

    state: Signed
    signer: str = ""
    """As the keys of whoever applies name them: a principal, a user ID."""
    key: str = ""
    """Fingerprint."""
    told: str = ""
    """What the program that checked it said, or why none could."""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class OnBranch:
    """Whether a branch of the remote was at a commit, by its line of first parents."""

    place: str
    """`main of origin`."""
    was: bool | None
    """None where that is not known."""
    told: str
    """Where the branch is, and when that was asked; or why it is not known."""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Vouched:
    """What git says of one commit."""

    signature: Signature | None = None
    """None where nobody asked."""
    branches: Mapping[str, OnBranch] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Missing:
    """An approval without which `apply` does nothing."""

    what: str
    fix: str


@dataclass(frozen=True, slots=True)
class Approval:
    """What approval the commit of a plan has, and what is missing of it."""

    given: tuple[str, ...] = ()
    missing: tuple[Missing, ...] = ()
    passing: bool = False
    """What is missing may be there at the next look, without a person."""


@dataclass(frozen=True, slots=True)
class Strayed:
    """A commit that something was applied at, and that is not in the history of the one that is looked at."""

    here: bool
    """Whether this clone has it."""
    known: bool
    """False in a shallow clone, which may only not reach back to it."""
    again: str = ""
    """A commit of the history that holds the same manifests; empty for none."""
    recorded: bool = False
    """Whether the manifests that it was applied with are on record."""
