"""What a look found and what an apply did, as files of the record: one fact a file.

All but the origin of a job follows from the evidence alone, so whoever saw the same writes the same, and a record that
is lost is made again. Nothing that goes on is written: a job is told of when it was submitted and when it has ended.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final
from urllib.parse import quote, unquote

from reconciler.model.observed import AttemptSeen, FolderSeen, Job, ListSeen, Observed, Receipt, TrainLog, Unread
from reconciler.model.plan import ActionKey, ActionKind
from reconciler.model.quantities import counted
from reconciler.model.recipe import read_recipe
from reconciler.model.verdict import read_verdict
from reconciler.planner.desired import Desired
from reconciler.planner.evidence import keyed
from reconciler.planner.strays import recipe_of

CAMPAIGNS: Final = "campaigns"
MANIFESTS: Final = "manifests"
TEMPLATES: Final = "templates"
LISTS: Final = "lists"
LATE_S: Final = 3600.0
"""After a job's end its log is taken to be whole: a filesystem may be late."""
NAME: Final = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,120}")
"""Of a file that is named by what a cluster says."""
README: Final = """\
The record of what `reconcile` did: written by it, read by `reconcile history`, `show`, `why` and `status --at`.

    campaigns/CAMPAIGN/CLUSTER-…/STAGE/ATTEMPT/   recipe, jobs with their scripts and logs in numbers, checkpoints,
                                                  losses, verdicts
    manifests/DIGEST/                             manifests as they were applied
    templates/DIGEST/, lists/DIGEST.txt           what scripts were made from, and data lists as they were

It follows from what is on the cluster. Nothing reads it to decide what is done, and it may be deleted: the next apply
writes again what the cluster still shows.
"""


@dataclass(frozen=True, slots=True)
class Applied:
    """What is applied and who wrote it: known where it is applied, and nowhere on the cluster."""

    commit: str
    dirty: bool
    author: str
    """`Name <mail>` of the commit."""
    authored: str
    """When, as git writes it: `1764266000 +0100`."""
    subject: str
    manifests: Mapping[str, str]
    """Path in the repository → text."""
    templates: Mapping[str, str]
    """Name → text."""
    program: str
    """Version of this program."""
    vouched: tuple[str, ...] = ()
    """What approval the commit had, of what was asked for."""


def place_of(campaign: str, cluster: str, where: str) -> str:
    """The folder of a campaign in one workspace. `where` is the workspace's path, and what tells its machine apart
    where that has one of its own: two that have the same campaign on two clusters do not write over each other."""
    return f"{CAMPAIGNS}/{campaign}/{cluster}-{hashlib.sha256(where.encode()).hexdigest()[:8]}"


def action_folder(key: ActionKey) -> str:
    """The folder of one action, in that of its campaign and workspace."""
    detail = f"-{key.detail}" if key.detail else ""
    return f"{key.stage}/{key.attempt}/actions/l{key.leg}-n{key.ended}-{key.kind}{detail}"


# --- what a look found ------------------------------------------------------------------------------------------------


def facts(desired: Desired, observed: Observed, place: str, known: Collection[str] = ()) -> dict[str, str]:
    """Path → text, of all that is over by now; of what could not be read nothing is said. `known` are paths that the
    record has: a log that is there and late enough is not made again."""
    if isinstance(observed.attempts, Unread) or isinstance(observed.receipts, Unread):
        return {}
    jobs = None if isinstance(observed.jobs, Unread) else observed.jobs
    logs = tuple(_logs(observed.attempts))
    ran = {log.key for log in logs} | {key for seen in observed.attempts for key in seen.ran}
    ran |= {job.key for job in jobs or () if job.key}
    actions = dict(_actions(desired.campaign, observed.receipts, ran))
    ended = dict(_ended(actions, jobs or ()))
    found = {"README.md": README, f"{place}/site.json": _json(site_of(desired))}
    for key, receipt in actions.items():
        found[f"{place}/{action_folder(key)}/receipt.json"] = _json(asdict(receipt))
        if key in ended:
            found[f"{place}/{action_folder(key)}/ended.json"] = _json(asdict(ended[key]))
    for seen in observed.attempts:
        if not seen.unread:
            folder = f"{place}/{seen.stage}/{seen.attempt}"
            found |= {f"{folder}/{path}": text for path, text in _attempt(seen)}
    late = {key for key, job in ended.items() if job.ended_s is not None and observed.now_s - job.ended_s > LATE_S}
    live = {job.key for job in jobs or () if job.live} | _live(actions, jobs or ())
    for log in logs if jobs is not None else ():
        of = ActionKey.parse(log.key)
        path = f"{place}/{action_folder(of)}/log.json" if of is not None else ""
        if of is not None and log.key not in live and not (path in known and of in late):
            found[path] = _json(asdict(log))
    return found


def site_of(desired: Desired) -> dict[str, str]:
    """Where things lie on the cluster: scripts have it in them, and manifests not all of it."""
    site = desired.site
    return {"workspace": site.workspace, "root": site.root, "checkout": site.checkout, "cluster": desired.spec.cluster}


def _actions(campaign: str, receipts: Sequence[Receipt], ran: Collection[str]) -> Iterator[tuple[ActionKey, Receipt]]:
    """Actions that have come to something: a result, a refusal, or, where qsub gave no answer, a job all the same, of
    whose key PBS or its output tells (`ran`)."""
    for receipt in receipts:
        key = ActionKey.parse(receipt.key)
        came = receipt.done or receipt.failed is not None or receipt.key in ran
        if key is not None and key.campaign == campaign and came:
            yield key, receipt


def _ended(actions: Mapping[ActionKey, Receipt], jobs: Sequence[Job]) -> Iterator[tuple[ActionKey, Job]]:
    """The job of each action that has ended, by the job table."""
    for key, job in keyed(jobs, actions.values()):
        if key in actions and actions[key].job_id in (None, job.job_id) and not job.live:
            yield key, job


def _live(actions: Mapping[ActionKey, Receipt], jobs: Sequence[Job]) -> set[str | None]:
    """Keys whose job, by the id in their receipt, may still write."""
    alive = {job.job_id for job in jobs if job.live}
    return {str(key) for key, receipt in actions.items() if receipt.job_id in alive}


def _logs(attempts: Sequence[AttemptSeen]) -> Iterator[TrainLog]:
    for seen in attempts:
        if not seen.unread:
            for leg in seen.legs:
                yield from leg.logs


def _attempt(seen: AttemptSeen) -> Iterator[tuple[str, str]]:
    """(path in the attempt's folder, text)."""
    if seen.recipe is not None and recipe_of(seen.stage, seen) is not None:
        yield "recipe.json", seen.recipe
    for leg in seen.legs:
        for checkpoint in leg.checkpoints:
            if checkpoint.complete and not checkpoint.universal:
                # What a checkpoint says of itself is read in some looks only: whoever saw the same writes the same.
                body = asdict(replace(checkpoint, inside=None))
                yield f"leg-{leg.index}/step-{checkpoint.iteration}.json", _json(body)
        if leg.converted is not None:
            yield f"leg-{leg.index}/source-{leg.converted}.json", _json({"converted": leg.converted})
    yield from _losses(seen)
    for folder, texts in (("verdicts", seen.verdicts), ("external", seen.external)):
        yield from ((f"{folder}/{name}.json", text) for name, text in texts.items() if NAME.fullmatch(name))


def _losses(seen: AttemptSeen) -> Iterator[tuple[str, str]]:
    for found in seen.evaluations:
        for name, loss in found.losses.items():
            if NAME.fullmatch(name):
                body = {"leg": found.leg, "iteration": found.iteration, "set": name, "loss": loss, "key": found.key}
                yield f"evaluations/leg-{found.leg}-{found.iteration}/{name}.json", _json(body)


# --- what an apply did ------------------------------------------------------------------------------------------------


def origins(
    desired: Desired,
    applied: Applied,
    observed: Observed,
    place: str,
    submitted: Mapping[ActionKey, tuple[str, str]],
) -> dict[str, str]:
    """Path → text, of what was submitted from here: key → (job, its script), with the manifests, templates
    and data lists that it was made from."""
    if not submitted:
        return {}
    named_lists = desired.asked_lists()  # a look may have been asked for other files too
    lists = {path: seen for path, seen in observed.lists.items() if path in named_lists and isinstance(seen, ListSeen)}
    manifests = digest_of(applied.manifests)
    templates = digest_of(applied.templates)
    found = {f"{MANIFESTS}/{manifests}/{named(path)}": text for path, text in applied.manifests.items()}
    found |= {f"{TEMPLATES}/{templates}/{named(path)}": text for path, text in applied.templates.items()}
    found |= {f"{LISTS}/{seen.sha256}.txt": seen.text for seen in lists.values()}
    for key, (job, script) in submitted.items():
        folder = f"{place}/{action_folder(key)}"
        about = {
            "key": str(key),
            "job": job,
            "commit": applied.commit,
            "dirty": applied.dirty,
            "author": applied.author,
            "authored": applied.authored,
            "subject": applied.subject,
            "vouched": list(applied.vouched),
            "manifests": manifests,
            "templates": templates,
            "program": applied.program,
            "site": site_of(desired),
            "at_s": observed.now_s,
            "lists": {path: seen.sha256 for path, seen in lists.items()},
            "folders": {path: asdict(seen) for path, seen in observed.folders.items() if isinstance(seen, FolderSeen)},
        }
        found[f"{folder}/origin.json"] = _json(about)
        found[f"{folder}/script.pbs"] = script
    return found


def digest_of(texts: Mapping[str, str]) -> str:
    """What a folder of files is kept under."""
    return hashlib.sha256(json.dumps(dict(texts), sort_keys=True).encode()).hexdigest()[:16]


def encoded(text: str) -> bytes:
    """As it is written; a cluster's text may hold what is no character."""
    return text.encode("utf-8", "replace")


def sha256(text: bytes) -> str:
    """Of a file's content, in hexadecimal."""
    return hashlib.sha256(text).hexdigest()


def named(path: str) -> str:
    """A path of somebody's repository as the record has it: nothing in it leads elsewhere."""
    parts = (quote(part, safe="@+").replace("~", "%7E") for part in path.split("/"))
    return "/".join(f"%2E{part[1:]}" if part.startswith(".") else part for part in parts)


def scripts_wanted(paths: Collection[str], desired: Desired, place: str) -> dict[str, str]:
    """Absolute path on the cluster → path on the branch, of job scripts that are not on record: of jobs that somebody
    submitted whose record did not come here, or before it was lost."""
    wanted = {}
    for path in paths:
        folder, _, name = path.rpartition("/")
        if name != "receipt.json" or not folder.startswith(f"{place}/") or f"{folder}/script.pbs" in paths:
            continue
        attempt, _, action = folder.removeprefix(f"{place}/").partition("/actions/")
        if action.split("-", 3)[2] in {kind for kind in ActionKind if kind.submits}:
            there = f"{desired.campaign}/{attempt}/jobs/{action}.pbs"
            wanted[desired.site.in_workspace(there)] = f"{folder}/script.pbs"
    return wanted


def told(paths: Collection[str]) -> str:
    """What is new on record, in one line: the message of the commit that puts it there."""
    parts = []
    for what, pattern in _TOLD.items():
        found = [match for path in paths if (match := pattern.search(path))]
        stages = dict.fromkeys(match["stage"] for match in found)
        if found:
            parts.append(f"{counted(len(found), what)} of {', '.join(stages)}")
    return "; ".join(parts) or f"{counted(len(paths), 'file')}"


_TOLD: Final = {
    what: re.compile(rf"/(?P<stage>[^/]+)/[0-9a-f]{{12}}/{tail}")
    for what, tail in {
        "new attempt": r"recipe\.json$",
        "submitted job": r"actions/[^/]+/origin\.json$",
        "ended job": r"actions/[^/]+/ended\.json$",
        "checkpoint": r"leg-[0-9]+/step-",
        "measurement": r"evaluations/",
        "verdict": r"verdicts/",
        "receipt": r"actions/[^/]+/receipt\.json$",
    }.items()
}


def unnamed(path: str) -> str:
    """The path that `named` was given."""
    return unquote(path)


# --- two texts of one fact --------------------------------------------------------------------------------------------


def chosen(path: str, there: bytes, new: bytes) -> bytes:
    """Which of two texts of one path stays. What grows is taken where it says more; a recipe, a verdict or a script is
    as the newest evidence has it, but what is damaged takes no place; of everything else what was written first."""
    name = path.rsplit("/", 1)[-1]
    if name in ("log.json", "ended.json", "receipt.json"):
        return new if _says(name, new) > _says(name, there) else there
    if name in ("script.pbs", "README.md"):
        return new
    if name == "recipe.json" or "/verdicts/" in path or "/external/" in path:
        return there if _readable(path, there) and not _readable(path, new) else new
    return there


def _readable(path: str, text: bytes) -> bool:
    """Whether a text is what its place is for, and not a half of it."""
    told = text.decode("utf-8", "replace")
    if "/verdicts/" in path:
        return read_verdict(told) is not None
    if path.endswith("/recipe.json"):
        return read_recipe(told) is not None
    try:
        return isinstance(json.loads(told), dict)
    except (ValueError, RecursionError):
        return False


def _says(name: str, text: bytes) -> tuple[float, ...]:
    """How much a text tells; one that cannot be read tells nothing."""
    try:
        told = _measured(name, json.loads(text), len(text))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OverflowError):
        return (-math.inf,)
    return told if all(map(math.isfinite, told)) else (-math.inf,)


def _measured(name: str, body: Any, size: int) -> tuple[float, ...]:
    if name == "log.json":
        last = body["last"][-1]["iteration"] if body["last"] else 0
        return (float(last), float(len(body["saved"])), float(body["finished_rc"] is not None), float(size))
    if name == "receipt.json":
        # A key that was refused may be submitted later, by a clock that tells an earlier time; never the other way.
        came = (body.get("job_id") is not None, body.get("failed") is None, body["done"] is True)
        return (*map(float, came), float(body["written_s"]))
    return (float(sum(value is not None for value in body.values())),)


@dataclass(frozen=True, slots=True)
class Apart:
    """One thing of which record and cluster tell differently."""

    path: str
    """In the campaign's folder on record: `STAGE/ATTEMPT/...`."""
    how: str

    def __str__(self) -> str:
        return f"{self.path}: {self.how}"


def disagreements(there: Mapping[str, bytes], found: Mapping[str, str], place: str) -> Iterator[Apart]:
    """Where the record (`there`: what it has otherwise) and the cluster tell of one thing differently: the cluster's is
    taken, and this is said."""
    for path, text in found.items():
        kept, new = there.get(path), encoded(text)
        what = _never_changes(path)
        if kept is not None and what and kept != new and chosen(path, kept, new) != kept:
            how = f"{what} on the cluster is another than the one that is on record"
            yield Apart(path.removeprefix(f"{place}/"), how)


def gone(paths: Collection[str], observed: Observed, place: str) -> Iterator[Apart]:
    """Attempts that the record has trained checkpoints of, and the cluster has not."""
    if isinstance(observed.attempts, Unread):
        return
    there = {f"{seen.stage}/{seen.attempt}" for seen in observed.attempts}
    made = {"/".join(path.removeprefix(f"{place}/").split("/")[:2]) for path in paths if path.startswith(f"{place}/")}
    for attempt in sorted(made - there):
        if attempt.count("/") == 1 and f"{place}/{attempt}/recipe.json" in paths:
            yield Apart(attempt, "is on record, and its folder is not on the cluster any more")


def _never_changes(path: str) -> str:
    name = path.rsplit("/", 1)[-1]
    fixed = {"recipe.json": "the recipe", "script.pbs": "the script"}
    return fixed.get(name, "the verdict" if "/verdicts/" in path else "")


def _json(body: Mapping[str, Any]) -> str:
    return json.dumps(body, sort_keys=True, indent=1, ensure_ascii=True) + "\n"
