"""The record read back: as a look at the cluster, and with what only the record knows of each job.

Whoever may push to the repository can write anything on the branch: what cannot be read as what it is for is left out
and counted, and nothing in it is a path or a program to anybody.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Final, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from reconciler.model.observed import (
    AttemptSeen,
    CheckpointSeen,
    EvaluationSeen,
    FolderSeen,
    Job,
    JobState,
    LegSeen,
    ListSeen,
    Observed,
    Receipt,
    TrainLog,
)
from reconciler.model.plan import ActionKey, ActionKind
from reconciler.model.recipe import Recipe
from reconciler.planner.facts import CAMPAIGNS, LATE_S, action_folder
from reconciler.planner.strays import recipe_of

FACT_BYTES_MAX: Final = 1024 * 1024
"""Of one fact; recipes, verdicts and logs in numbers are a few kilobytes."""
STAGE = r"(?P<stage>[a-z0-9.-]{1,63})/(?P<attempt>[0-9a-f]{12})"
_PLACE: Final = re.compile(rf"{CAMPAIGNS}/(?P<campaign>[a-z0-9.-]{{1,63}})/(?P<name>[a-z0-9.-]{{1,63}}-[0-9a-f]{{8}})")
_ACTION: Final = re.compile(
    rf"{STAGE}/actions/l[0-9]{{1,4}}-n[0-9]{{1,6}}-[A-Za-z0-9.-]{{1,160}}/(?P<what>[a-z]+)\.(json|pbs)"
)
_OF_ATTEMPT: Final = re.compile(
    rf"{STAGE}/(?:leg-(?P<leg>[0-9]{{1,4}})/(?P<what>step|source)-(?P<at>[0-9]{{1,9}})"
    r"|evaluations/leg-[0-9]{1,4}-[0-9]{1,9}/(?P<set>[A-Za-z0-9._-]{1,120})"
    r"|(?P<text>verdicts|external)/(?P<name>[A-Za-z0-9._-]{1,120})|(?P<recipe>recipe))\.json"
)
Word = Annotated[str, Field(max_length=4096)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


@dataclass(frozen=True, slots=True)
class SiteOf:
    """Where a job's cluster had things."""

    workspace: Word
    root: Word
    checkout: Word
    cluster: Word


@dataclass(frozen=True, slots=True)
class Origin:
    """What a job was submitted from."""

    key: Word
    job: Word
    commit: Word
    dirty: bool
    author: Word
    authored: Word
    subject: Word
    manifests: Digest
    templates: Digest
    program: Word
    site: SiteOf
    at_s: float
    """By the cluster's clock, at the look before it."""
    lists: Mapping[Word, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]]
    """Path on the cluster → SHA-256 of the data list that lay there."""
    vouched: tuple[Word, ...] = ()
    """What approval its commit had, as whoever applied it found."""
    folders: Mapping[Word, FolderSeen] = field(default_factory=dict)
    """Path on the cluster → what lay in a folder of checkpoints that no attempt made."""


@dataclass(frozen=True, slots=True)
class _Evaluation:
    leg: int
    iteration: int
    set: Word
    loss: float | None
    key: Word


@dataclass(frozen=True, slots=True)
class Done:
    """One action that came to something."""

    key: ActionKey
    receipt: Receipt
    ended: Job | None = None
    """Its job, once PBS has told its end."""
    log: TrainLog | None = None
    origin: Origin | None = None
    """None where the record was made again from the cluster."""
    script: str = ""
    """Path of its script on the branch; empty if it is not on record."""

    @property
    def may_live(self) -> bool:
        """Whether it has a job of which no end is on record; where qsub gave no answer, no end of its log either."""
        if self.ended is not None:
            return False
        unanswered = not self.receipt.done and self.receipt.failed is None
        return bool(self.receipt.job_id) or (unanswered and (self.log is None or self.log.finished_rc is None))

    @property
    def at_s(self) -> float:
        """When it was submitted or written."""
        return self.receipt.written_s


@dataclass(frozen=True, slots=True)
class Recalled:
    """One campaign in one workspace, as far as it is on record."""

    campaign: str
    name: str
    """Of the workspace's folder: the cluster, and what tells two workspaces apart."""
    attempts: tuple[AttemptSeen, ...]
    done: tuple[Done, ...]
    """By when they were submitted or written."""
    site: SiteOf | None
    unreadable: tuple[str, ...] = ()
    """Files that are not what their place says."""

    @property
    def place(self) -> str:
        """The folder on the branch."""
        return f"{CAMPAIGNS}/{self.campaign}/{self.name}"

    @property
    def recipes(self) -> dict[str, Recipe]:
        """Of every attempt whose recipe is what it is named for."""
        found = ((seen.attempt, recipe_of(seen.stage, seen)) for seen in self.attempts)
        return {attempt: recipe for attempt, recipe in found if recipe is not None}

    def of(self, attempt: str) -> tuple[Done, ...]:
        """The actions of one attempt."""
        return tuple(each for each in self.done if each.key.attempt == attempt)

    def observed(self, lists: Mapping[str, ListSeen], folders: Mapping[str, FolderSeen] | None = None) -> Observed:
        """The record as a look, a while after the last thing in it: what is on record is over. A job of which no end is
        on record counts as one that may be alive. Without a choice, `folders` are as the last job found each."""
        if folders is None:
            folders = {path: seen for e in self.done if e.origin is not None for path, seen in e.origin.folders.items()}
        ended = [each.ended for each in self.done if each.ended is not None]
        over = _over(self)
        open_ = [each for each in self.done if each.may_live and not over(each.key)]
        times = [each.at_s for each in self.done] + [job.ended_s or 0.0 for job in ended]
        return Observed(
            now_s=max(times, default=0.0) + LATE_S,
            host="the record",
            jobs=(*ended, *(_unknown(each) for each in open_)),
            attempts=self.attempts,
            receipts=tuple(each.receipt for each in self.done),
            lists=dict(lists),
            folders=dict(folders),
        )


def places(paths: Sequence[str]) -> dict[str, list[str]]:
    """Folder of a campaign in a workspace → the paths in it."""
    found: dict[str, list[str]] = {}
    for path in paths:
        place = _PLACE.match(path)
        if place is not None and path[place.end() :].startswith("/"):
            found.setdefault(place[0], []).append(path)
    return found


def recall(place: str, texts: Mapping[str, bytes]) -> Recalled:
    """What is on record of one campaign in one workspace; `texts` holds the files below its folder, by their paths on
    the branch."""
    named = _PLACE.fullmatch(place)
    assert named is not None  # noqa: S101  # `places` gave it
    reading = _Reading(place)
    for path, text in texts.items():
        reading.file(path.removeprefix(f"{place}/"), text)
    return reading.recalled(named["campaign"], named["name"])


T = TypeVar("T")
_RECEIPT: Final = TypeAdapter(Receipt)
_JOB: Final = TypeAdapter(Job)
_LOG: Final = TypeAdapter(TrainLog)
_ORIGIN: Final = TypeAdapter(Origin)
_CHECKPOINT: Final = TypeAdapter(CheckpointSeen)
_EVALUATED: Final = TypeAdapter(_Evaluation)
_SITE: Final = TypeAdapter(SiteOf)


@dataclass(slots=True)
class _Parts:
    """One attempt's files, as they come."""

    texts: dict[str, dict[str, str]] = field(default_factory=lambda: {"recipe": {}, "verdicts": {}, "external": {}})
    checkpoints: dict[int, list[CheckpointSeen]] = field(default_factory=dict)
    converted: dict[int, int] = field(default_factory=dict)
    losses: dict[tuple[int, int], dict[str, float]] = field(default_factory=dict)
    logs: dict[int, list[TrainLog]] = field(default_factory=dict)


@dataclass(slots=True)
class _Action:
    receipt: Receipt | None = None
    ended: Job | None = None
    log: TrainLog | None = None
    origin: Origin | None = None
    script: str = ""


class _Reading:
    """The files of one folder, each put where it belongs."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._attempts: dict[tuple[str, str], _Parts] = {}
        self._actions: dict[str, _Action] = {}
        self._site: SiteOf | None = None
        self._unreadable: list[str] = []

    def file(self, path: str, text: bytes) -> None:
        if not (self._site_file(path, text) or self._action_file(path, text) or self._attempt_file(path, text)):
            self._unreadable.append(path)

    def _site_file(self, path: str, text: bytes) -> bool:
        if path != "site.json":
            return False
        self._site = _read(_SITE, text)
        return self._site is not None

    def _action_file(self, path: str, text: bytes) -> bool:
        found = _ACTION.fullmatch(path)
        if found is None:
            return False
        folder, what = path.rsplit("/", 1)[0], found["what"]
        action = self._actions.setdefault(folder, _Action())
        match what:
            case "receipt":
                action.receipt = _read(_RECEIPT, text)
            case "ended":
                action.ended = _read(_JOB, text)
            case "log":
                action.log = _read(_LOG, text)
            case "origin":
                action.origin = _read(_ORIGIN, text)
            case "script":
                action.script = f"{self._place}/{path}"
            case _:
                return False
        return getattr(action, what) is not None

    def _attempt_file(self, path: str, text: bytes) -> bool:
        found = _OF_ATTEMPT.fullmatch(path)
        if found is None or len(text) > FACT_BYTES_MAX:
            return False
        parts = self._attempts.setdefault((found["stage"], found["attempt"]), _Parts())
        if found["recipe"] or found["text"]:
            parts.texts[found["text"] or "recipe"][found["name"] or "recipe"] = text.decode("utf-8", "replace")
            return True
        if found["set"]:
            evaluated = _read(_EVALUATED, text)
            if evaluated is None or evaluated.set != found["set"]:
                return False
            loss = math.nan if evaluated.loss is None else evaluated.loss
            parts.losses.setdefault((evaluated.leg, evaluated.iteration), {})[evaluated.set] = loss
            return True
        if found["what"] == "source":
            parts.converted[int(found["leg"])] = int(found["at"])
            return True
        checkpoint = _read(_CHECKPOINT, text)
        if checkpoint is None or checkpoint.iteration != int(found["at"]):
            return False
        parts.checkpoints.setdefault(int(found["leg"]), []).append(checkpoint)
        return True

    def recalled(self, campaign: str, name: str) -> Recalled:
        kinds = list(ActionKind)
        without_entry = dict(self._without_entry(campaign))
        done = sorted(
            self._done(campaign, without_entry), key=lambda each: (each.at_s, kinds.index(each.key.kind), each.key)
        )
        ran: dict[tuple[str, str], list[str]] = {}
        for each in done:
            if each.log is not None or each.ended is not None:
                ran.setdefault((each.key.stage, each.key.attempt), []).append(str(each.key))
        logs = [(each.key, each.log) for each in done if each.log is not None and each.log.key == str(each.key)]
        for key, log in (*logs, *without_entry.values()):
            parts = self._attempts.setdefault((key.stage, key.attempt), _Parts())
            parts.logs.setdefault(key.leg, []).append(log)
        attempts = tuple(
            replace(_attempt(*who, parts), ran=tuple(ran.get(who, ()))) for who, parts in sorted(self._attempts.items())
        )
        return Recalled(campaign, name, attempts, tuple(done), self._site, tuple(self._unreadable))

    def _done(self, campaign: str, without_entry: Collection[str]) -> Iterator[Done]:
        for folder, action in self._actions.items():
            receipt = action.receipt or _by_origin(action.origin)
            key = _placed(campaign, folder, receipt.key) if receipt is not None else None
            if receipt is None or key is None:
                if folder not in without_entry:
                    self._unreadable.append(folder)
                continue
            ended = action.ended if action.ended is not None and _is_of(action.ended, receipt) else None
            origin = action.origin if action.origin is not None and action.origin.key == str(key) else None
            yield Done(key, receipt, ended, action.log, origin, action.script)

    def _without_entry(self, campaign: str) -> Iterator[tuple[str, tuple[ActionKey, TrainLog]]]:
        """(folder, log) of jobs whose entry in the journal was lost before anybody had put it on record."""
        for folder, action in self._actions.items():
            if action.log is not None and action.receipt is None and action.origin is None:
                key = _placed(campaign, folder, action.log.key)
                if key is not None:
                    yield folder, (key, action.log)


def _is_of(job: Job, receipt: Receipt) -> bool:
    """Whether a job is the one of a receipt, which has no id where qsub gave no answer."""
    return job.job_id == receipt.job_id or (receipt.job_id is None and job.key == receipt.key)


def _placed(campaign: str, folder: str, text: str) -> ActionKey | None:
    """The key that a file says it is of, if its place says so too."""
    key = ActionKey.parse(text)
    return key if key is not None and key.campaign == campaign and folder == action_folder(key) else None


def _read(reader: TypeAdapter[T], text: bytes) -> T | None:
    if len(text) > FACT_BYTES_MAX:
        return None
    try:
        return reader.validate_json(text)
    except ValidationError:
        return None


def _by_origin(origin: Origin | None) -> Receipt | None:
    """What the journal will say, of a job that was submitted after the last look."""
    if origin is None:
        return None
    return Receipt(origin.key, origin.at_s, True, origin.job, None, "", origin.commit, origin.dirty)


def _attempt(stage: str, attempt: str, parts: _Parts) -> AttemptSeen:
    legs = sorted({*parts.checkpoints, *parts.converted, *parts.logs})
    return AttemptSeen(
        stage,
        attempt,
        parts.texts["recipe"].get("recipe"),
        tuple(_leg(index, parts) for index in legs),
        tuple(EvaluationSeen(leg, at, losses) for (leg, at), losses in sorted(parts.losses.items())),
        parts.texts["verdicts"],
        parts.texts["external"],
    )


def _leg(index: int, parts: _Parts) -> LegSeen:
    checkpoints = tuple(sorted(parts.checkpoints.get(index, ()), key=lambda c: c.iteration))
    last = checkpoints[-1].iteration if checkpoints else None
    logs = sorted(parts.logs.get(index, ()), key=lambda log: _ended_before(log.key))
    return LegSeen(index, checkpoints, last, last, tuple(logs), parts.converted.get(index))


def _ended_before(key: str) -> int:
    found = ActionKey.parse(key)
    return found.ended if found is not None else 0


def _over(recalled: Recalled) -> Callable[[ActionKey], bool]:
    """Whether a job without an end on record has ended: a later one of its kind was submitted, or it is judged."""
    judged = {seen.attempt for seen in recalled.attempts if seen.verdicts}
    last: dict[tuple[str, str, int, str], int] = {}
    for each in recalled.done:
        series = (each.key.attempt, each.key.kind, each.key.leg, each.key.detail)
        last[series] = max(each.key.ended, last.get(series, 0))
    return lambda key: key.attempt in judged or key.ended < last[key.attempt, key.kind, key.leg, key.detail]


def _unknown(of: Done) -> Job:
    comment = "its end is not on record"
    return Job(of.receipt.job_id or "", "", JobState.UNKNOWN, "", str(of.key), comment=comment)
