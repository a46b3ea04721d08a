"""Whether a commit may be applied: the rule in force, and what of it is missing. Pure; git's answers come from outside.

A rule is read where the commit that is judged cannot change it, too: in what was last applied, as the cluster has it,
and in the configuration of whoever applies. So a commit that takes the rule out has to keep to it once more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from reconciler.model.authority import Approval, Authority, Demand, Missing, OnBranch, Signature, Signed, Vouched
from reconciler.model.fieldtypes import BRANCH_PATTERN
from reconciler.model.observed import Observed, Unread
from reconciler.model.problems import clip
from reconciler.planner.desired import Desired
from reconciler.planner.drift import CAMPAIGN

MANIFEST: Final = "its manifest"
APPLIED: Final = "what was last applied"
_RULE: Final = "campaign.authority"
_LOOK: Final = "look again; if that does not help, see to applied.json in the campaign's folder on the cluster"


def demand(desired: Desired, observed: Observed, rules: Sequence[tuple[str, Authority]]) -> Demand:
    """What is asked of a commit by all that has a say: its manifest, what was last applied, and `rules`
    (who, in words; the rule) from where no commit reaches."""
    own = desired.spec.authority
    asking = [*([(MANIFEST, own)] if own is not None else ()), *rules]
    unread = ""
    try:
        applied = _applied(observed.applied)
    except ValueError as error:
        unread = str(error)
    else:
        if applied is not None:
            asking.append((APPLIED, applied))
    reviewed: dict[str, dict[str, None]] = {}
    for who, rule in asking:
        if rule.reviewed is not None:
            reviewed.setdefault(rule.reviewed, {})[who] = None
    signed = dict.fromkeys(who for who, rule in asking if rule.signed)
    return Demand(tuple(signed), {branch: tuple(several) for branch, several in reviewed.items()}, unread)


def _applied(text: str | Unread | None) -> Authority | None:
    """The rule in `applied.json`.

    Raises:
        ValueError: there may be one, and it cannot be read.
    """
    if text is None:
        return None
    if isinstance(text, Unread):
        raise ValueError(clip(text.why, 300))
    try:
        wants = json.loads(text)["wants"].get(CAMPAIGN, {})
        signed, reviewed = wants.get(f"{_RULE}.signed", "False"), wants.get(f"{_RULE}.reviewed")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("it is damaged") from error
    if signed not in ("True", "False") or not (reviewed is None or _is_branch(reviewed)):
        raise ValueError("its rule makes no sense")
    if signed == "False" and reviewed is None:
        return None
    return Authority(signed=signed == "True", reviewed=reviewed)


def _is_branch(name: object) -> bool:
    return isinstance(name, str) and len(name) <= 200 and re.fullmatch(BRANCH_PATTERN, name) is not None


def approval(asked: Demand, desired: Desired, vouched: Vouched) -> Approval:
    """What the commit has of what is asked, and what is missing."""
    found = tuple(_judged(asked, desired, vouched))
    missing = tuple(each for each in found if isinstance(each, Missing))
    given = tuple(each for each in found if isinstance(each, str))
    if not asked.unread:
        return Approval(given, missing)
    unread = Missing(f"what was last applied could not be read, so its rule is not known: {asked.unread}", _LOOK)
    return Approval(given, (*missing, unread), passing=not missing)


def _judged(asked: Demand, desired: Desired, vouched: Vouched) -> Iterator[Missing | str]:
    if not asked.anything:
        return
    commit, campaign = desired.revision, desired.campaign
    if desired.dirty or not commit:
        # The files are not those of the commit, whatever is said of it.
        everybody = dict.fromkeys([*asked.signed, *(each for several in asked.reviewed.values() for each in several)])
        what = f"these manifests are in no commit, and {_asked(everybody, 'a commit with an approval')}"
        yield Missing(what, "git add manifests && git commit -S")
        return
    if asked.signed:
        by = _asked(asked.signed, "a signed commit")
        yield _signature(vouched.signature or Signature(Signed.UNCHECKED, told="git was not asked"), commit, by)
    for branch, who in asked.reviewed.items():
        by = _asked(who, f"a commit that {branch} was at")
        on = vouched.branches.get(branch) or OnBranch(branch, None, "git was not asked")
        if on.was:
            yield f"{on.place} was at {commit[:9]}"
        elif on.was is None:
            yield Missing(f"whether {on.place} was at {commit[:9]} is not known ({on.told}), and {by}", on.fix)
        else:
            yield Missing(f"{on.place} was never at {commit[:9]} ({on.told}), and {by}", _merged(branch, campaign))


def _merged(branch: str, campaign: str) -> str:
    return f"git switch {branch} && git pull && reconcile plan {campaign}      (once it is merged)"


def _signature(found: Signature, commit: str, by: str) -> Missing | str:
    told = f": {clip(found.told, 300)}" if found.told else ""
    key = f" {clip(found.key, 100)}" if found.key else ""
    match found.state:
        case Signed.GOOD:
            return f"signed by {clip(found.signer, 100)} with key{key}"
        case Signed.NONE:
            what = f"{commit[:9]} is not signed"
        case Signed.BAD:
            what = f"the signature of {commit[:9]} does not hold: it is not of this commit, or its key is revoked{told}"
        case Signed.UNTRUSTED:
            what = f"{commit[:9]} is signed with key{key}, which your git does not trust{told}"
        case Signed.EXPIRED:
            what = f"{commit[:9]} is signed with key{key}, which has expired{told}"
        case _:
            what = f"the signature of {commit[:9]} cannot be checked{told}"
    # A signature is for all that the commit holds, so an empty one on top vouches for what lies below.
    sign = "git commit -S --allow-empty -m 'Approve the plan'      (by somebody whose key counts)"
    return Missing(f"{what}, and {by}", found.fix or sign)


def _asked(who: Iterable[str], what: str) -> str:
    several = list(who)
    return f"{' and '.join(several)} {'ask' if len(several) > 1 else 'asks'} for {what}"
