"""Which commits may be applied: what is asked, by whom, and what is missing, as tables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.model.authority import Authority, Demand, OnBranch, Signature, Signed, Vouched
from reconciler.model.observed import Unread
from reconciler.planner import drift
from reconciler.planner.authority import approval, demand
from reconciler.planner.desired import Desired
from tests.planner.world import World, quickstart, swapped

NOBODY = Vouched()
SIGNED, REVIEWED = Authority(signed=True), Authority(reviewed="main")
COMMIT = "c" * 40


def wanting(rule: str, revision: str = COMMIT) -> Desired:
    """The quickstart with a rule, or without one."""
    edit = swapped(("  bounds:", f"  {rule}\n  bounds:")) if rule else swapped()
    return replace(quickstart(edit), revision=revision)


@pytest.mark.parametrize(
    ("now", "applied", "own", "signed", "reviewed"),
    [
        ("", "", None, (), {}),
        ("authority: {signed: true}", None, None, ("its manifest",), {}),
        ("authority: {signed: true}", "", None, ("its manifest",), {}),
        # Taken out, or made another, in the commit that is judged: what was last applied still asks.
        ("", "authority: {signed: true}", None, ("what was last applied",), {}),
        (
            "authority: {reviewed: mine}",
            "authority: {reviewed: main}",
            None,
            (),
            {"mine": ("its manifest",), "main": ("what was last applied",)},
        ),
        ("", "", SIGNED, ("me",), {}),
        ("", None, REVIEWED, (), {"main": ("me",)}),
        (
            "authority: {signed: true, reviewed: main}",
            "authority: {signed: true, reviewed: main}",
            SIGNED,
            ("its manifest", "me", "what was last applied"),
            {"main": ("its manifest", "what was last applied")},
        ),
    ],
)
def test_a_rule_is_asked_for_by_all_that_have_a_say(
    now: str, applied: str | None, own: Authority | None, signed: tuple[str, ...], reviewed: dict[str, tuple[str, ...]]
) -> None:
    wanted = wanting(now)
    text = None if applied is None else drift.applied_text(wanting(applied))
    rules = [("me", own)] if own is not None else []
    asked = demand(wanted, replace(World(wanted).look(), applied=text), rules)
    assert asked == Demand(signed, reviewed)


@pytest.mark.parametrize(
    "applied",
    [
        Unread("permission denied"),
        "{",
        "[]",
        '{"wants": 1}',
        '{"wants": {"(campaign)": {"campaign.authority.signed": "perhaps"}}}',
        '{"wants": {"(campaign)": {"campaign.authority.reviewed": "--upload-pack=touch"}}}',
        '{"wants": {"(campaign)": {"campaign.authority.reviewed": ["main"]}}}',
    ],
)
def test_a_rule_that_cannot_be_read_is_not_taken_for_none(applied: str | Unread) -> None:
    wanted = wanting("")
    asked = demand(wanted, replace(World(wanted).look(), applied=applied), [])
    found = approval(asked, wanted, Vouched())
    assert found.passing
    (missing,) = found.missing
    assert missing.what.startswith("what was last applied could not be read, so its rule is not known: ")


def test_what_an_older_version_applied_has_no_rule() -> None:
    wanted = wanting("")
    look = replace(World(wanted).look(), applied='{"revision": "x", "wants": {"stage-1": {}}}')
    assert demand(wanted, look, []) == Demand()


def judged(asked: Demand, *, vouched: Vouched = NOBODY, dirty: bool = False, revision: str = COMMIT) -> str:
    """What came of it, a line each."""
    found = approval(asked, replace(wanting("", revision), dirty=dirty), vouched)
    return "\n".join([*(f"+ {each}" for each in found.given), *(f"- {m.what} | {m.fix}" for m in found.missing)])


SIGN = "git commit -S --allow-empty -m 'Approve the plan'      (by somebody whose key counts)"
ASKS = "its manifest asks for a signed commit"


@pytest.mark.parametrize(
    ("signature", "told"),
    [
        (Signature(Signed.GOOD, "ada@example.org", "SHA256:k"), "+ signed by ada@example.org with key SHA256:k"),
        (Signature(Signed.NONE), f"- ccccccccc is not signed, and {ASKS} | {SIGN}"),
        (
            Signature(Signed.UNTRUSTED, "", "SHA256:k", "No principal matched."),
            f"- ccccccccc is signed with key SHA256:k, which your git does not trust: No principal matched., and {ASKS}"
            f" | {SIGN}",
        ),
        (
            Signature(Signed.EXPIRED, "", "SHA256:k"),
            f"- ccccccccc is signed with key SHA256:k, which has expired, and {ASKS} | {SIGN}",
        ),
        (
            Signature(Signed.BAD, told="incorrect signature"),
            "- the signature of ccccccccc does not hold: it is not of this commit, or its key is revoked: "
            f"incorrect signature, and {ASKS} | {SIGN}",
        ),
        (
            Signature(Signed.UNCHECKED, told="there is no gpg here", fix="install gpg"),
            f"- the signature of ccccccccc cannot be checked: there is no gpg here, and {ASKS} | install gpg",
        ),
        (None, f"- the signature of ccccccccc cannot be checked: git was not asked, and {ASKS} | {SIGN}"),
    ],
)
def test_only_a_good_signature_is_one(signature: Signature | None, told: str) -> None:
    assert judged(Demand(signed=("its manifest",)), vouched=Vouched(signature)) == told


@pytest.mark.parametrize(
    ("was", "told"),
    [
        (True, "+ main of origin was at ccccccccc"),
        (
            False,
            "- main of origin was never at ccccccccc (it is at ddd), and its manifest asks for a commit that main was "
            "at | git switch main && git pull && reconcile plan quickstart      (once it is merged)",
        ),
        (
            None,
            "- whether main of origin was at ccccccccc is not known (it is at ddd), and its manifest asks for a commit "
            "that main was at | do so",
        ),
    ],
)
def test_only_a_branch_that_was_at_the_commit_vouches_for_it(was: bool | None, told: str) -> None:
    on = OnBranch("main of origin", was, "it is at ddd", "do so")
    assert judged(Demand(reviewed={"main": ("its manifest",)}), vouched=Vouched(branches={"main": on})) == told


def test_what_no_commit_holds_has_no_approval_whatever_the_commit_has() -> None:
    asked = Demand(("its manifest",), {"main": ("me",)})
    good = Vouched(Signature(Signed.GOOD, "ada", "k"), {"main": OnBranch("main of origin", True, "")})
    assert judged(asked, vouched=good).count("+") == 2
    told = "- these manifests are in no commit, and its manifest and me ask for a commit with an approval | "
    assert judged(asked, vouched=good, dirty=True).startswith(told)
    assert judged(asked, vouched=good, revision="").startswith(told)


def test_a_rule_that_asks_for_nothing_is_told_to_be_none() -> None:
    with pytest.raises(ValueError, match="leave authority out"):
        Authority()
