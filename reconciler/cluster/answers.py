"""The agent's answers → the model's values. Every function raises `Malformed` for anything that is not as agreed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any, Final

from reconciler.cluster import openpbs
from reconciler.cluster.batch import Outcome, OutcomeKind
from reconciler.cluster.fields import Fields, Malformed, is_text
from reconciler.model.external import EXTERNAL_CHARS_MAX
from reconciler.model.observed import (
    AttemptSeen,
    CheckpointSeen,
    EvaluationSeen,
    FolderAbsent,
    FolderSeen,
    Inside,
    Job,
    LegSeen,
    ListAbsent,
    ListSeen,
    LockSeen,
    LogPoint,
    LogWindow,
    PrunedSeen,
    Receipt,
    TrainLog,
    Unread,
)

FILE_CHARS_MAX: Final = 8 * 1024 * 1024
PER_LOG_MAX: Final = 4096
PRUNED_PATH: Final = re.compile(r"leg-\d{1,4}(-source)?/\.pruned-[0-9a-f]{16}-global_step\d{1,12}(_universal)?")
JOB_LOGS_MAX: Final = 10_000


def receipts(part: Fields) -> tuple[Receipt, ...]:
    """The journal."""
    return part.each("read", _receipt)


def jobs(part: Fields) -> tuple[Job, ...]:
    """The job table."""
    return part.each("read", _job)


def attempts(part: Fields) -> tuple[AttemptSeen, ...]:
    """Every attempt of the campaign."""
    return part.each("read", _attempt)


def applied(part: Fields) -> str | None:
    """The text of `applied.json`."""
    return part.optional(lambda name: part.text(name, FILE_CHARS_MAX), "read")


def lock(seen: Fields) -> LockSeen | None:
    """Who holds the lock; None also if that could not be read, since it is only told to people."""
    try:
        part = seen.fields("lock")
        return None if part.has("unread") else part.optional(lambda name: lock_seen(part.fields(name)), "read")
    except Malformed:
        return None


def lock_seen(fields: Fields) -> LockSeen:
    """One lock."""
    found = LockSeen(
        nonce=fields.line("nonce"), holder=fields.line("holder"), host=fields.line("host"), age_s=fields.number("age")
    )
    fields.end()
    return found


def data_list(value: Any) -> ListSeen | ListAbsent | Unread:
    """One data list, whose digest must be that of its text."""
    try:
        fields = Fields(value, "the list")
        if fields.has("absent"):
            return ListAbsent() if fields.flag("absent") else Unread("neither there nor absent")
        if fields.has("unread"):
            return Unread(fields.line("unread"))
        text, digest = fields.text("text", FILE_CHARS_MAX), fields.text("sha256", 64)
        fields.end()
    except Malformed as malformed:
        return Unread(f"the cluster's answer is not as agreed: {malformed}")
    if hashlib.sha256(text.encode()).hexdigest() != digest:
        return Unread("the cluster's answer is not as agreed: the list's digest is not that of its text")
    return ListSeen(text, digest)


def folder(value: Any) -> FolderSeen | FolderAbsent | Unread:
    """One folder of checkpoints."""
    try:
        part = Fields(value, "the folder")
        if part.has("unread"):
            return Unread(part.line("unread"))
        found = part.optional(lambda name: _folder(part.fields(name)), "read")
    except Malformed as malformed:
        return Unread(f"the cluster's answer is not as agreed: {malformed}")
    return FolderAbsent() if found is None else found


def foreign_log(value: Any) -> TrainLog | None:
    """The end of one log of others; None if it was not read."""
    try:
        part = Fields(value, "the log")
        return None if part.has("unread") else part.optional(lambda name: _train_log(part.fields(name)), "read")
    except Malformed:
        return None


def outcomes(answer: Fields, keys: Sequence[str]) -> tuple[Outcome, ...]:
    """One outcome per action that was sent, in its order."""
    found = answer.each("outcomes", _outcome)
    if [outcome.key for outcome in found] != list(keys):
        raise Malformed("the outcomes are not those of the actions that were sent")
    return found


def _outcome(fields: Fields) -> Outcome:
    kind = fields.text("kind")
    if kind not in set(OutcomeKind):
        raise Malformed(f"{kind[:40]!r} is not an outcome")
    found = Outcome(
        key=fields.text("key"),
        kind=OutcomeKind(kind),
        job_id=fields.optional(fields.line, "job_id"),
        message=fields.line("message"),
    )
    fields.end()
    return found


def _receipt(fields: Fields) -> Receipt:
    found = Receipt(
        key=fields.text("key"),
        written_s=fields.number("written"),
        done=fields.flag("done"),
        job_id=fields.optional(fields.line, "job_id"),
        failed=fields.optional(fields.line, "failed"),
        applied_by=fields.line("applied_by"),
        commit=fields.line("commit"),
        dirty=fields.flag("dirty"),
    )
    fields.end()
    return found


def _job(fields: Fields) -> Job:
    # A finished job's end: when it was seen to have ended, else when it went to history, else its last change.
    ends = [fields.optional(fields.number, name) for name in ("obit", "history", "modified")]
    found = openpbs.job(
        job_id=fields.line("id"),
        name=fields.line("name"),
        letter=fields.line("state"),
        key=fields.optional(fields.text, "key"),
        exit_status=fields.optional(lambda name: fields.integer(name, -(2**31), 2**31), "exit"),
        substate=fields.optional(fields.integer, "substate"),
        comment=fields.line("comment"),
        queue=fields.line("queue"),
        nodes=fields.optional(fields.integer, "nodes"),
        unread=fields.line("unread"),
        queued_s=fields.optional(fields.number, "queued"),
        started_s=fields.optional(fields.number, "started"),
        ended_s=next((end for end in ends if end is not None), None),
    )
    fields.optional(fields.text, "workspace")
    fields.end()
    return found


def _attempt(fields: Fields) -> AttemptSeen:
    verdicts = _texts(fields, "verdicts", FILE_CHARS_MAX)
    external = _texts(fields, "external", EXTERNAL_CHARS_MAX + 1)
    found = AttemptSeen(
        stage=fields.text("stage"),
        attempt=fields.text("attempt", 12),
        recipe=fields.optional(lambda name: fields.text(name, FILE_CHARS_MAX), "recipe"),
        legs=fields.each("legs", _leg),
        evaluations=fields.each("evaluations", _evaluation),
        verdicts=verdicts,
        external=external,
        stop_requested=fields.flag("stop"),
        ran=fields.texts("ran", JOB_LOGS_MAX),
        unread=fields.line("unread"),
    )
    fields.end()
    return found


def _texts(fields: Fields, name: str, chars_max: int) -> dict[str, str]:
    """Texts of files by name."""
    texts = fields.mapping(name)
    if not all(is_text(file, 200) and is_text(text, chars_max) for file, text in texts.items()):
        raise Malformed(f"not all of {name} are texts of at most {chars_max} characters")
    return dict(texts)


def _leg(fields: Fields) -> LegSeen:
    found = LegSeen(
        index=fields.integer("index"),
        checkpoints=fields.each("checkpoints", _checkpoint),
        latest=fields.optional(fields.integer, "latest"),
        tracker=fields.optional(fields.integer, "tracker"),
        logs=fields.each("logs", _train_log),
        converted=fields.optional(fields.integer, "converted"),
        copy_bytes=fields.integer("copy_size"),
        copy_identity=fields.text("copy_identity", 16),
        pruned=fields.each("pruned", _pruned),
    )
    fields.end()
    return found


def _folder(fields: Fields) -> FolderSeen:
    found = FolderSeen(
        checkpoints=fields.each("checkpoints", _checkpoint),
        latest=fields.optional(fields.integer, "latest"),
        tracker=fields.optional(fields.integer, "tracker"),
        latest_universal=fields.optional(fields.integer, "latest_universal"),
    )
    fields.end()
    return found


def _pruned(fields: Fields) -> PrunedSeen:
    found = PrunedSeen(path=fields.text("path", 200), size_bytes=fields.integer("size"))
    fields.end()
    if PRUNED_PATH.fullmatch(found.path) is None:
        raise Malformed(f"{found.path[:100]!r} is not the name of a folder that was set aside")
    return found


def _checkpoint(fields: Fields) -> CheckpointSeen:
    why = fields.line("why")
    found = CheckpointSeen(
        iteration=fields.integer("iteration"),
        complete=not why,
        why_not=why,
        data_parallel=fields.integer("data_parallel"),
        size_bytes=fields.integer("size"),
        model_parallel=fields.integer("model_parallel"),
        universal=fields.flag("universal"),
        inside=fields.optional(lambda name: _inside(fields.fields(name)), "inside"),
        identity=fields.text("identity", 16),
        saved_s=fields.number("saved"),
    )
    fields.end()
    return found


_COUNTS: Final = (
    *("iteration", "global_steps", "samples", "tokens", "data_parallel", "model_parallel", "tensor", "pipeline"),
    *("layers", "hidden", "heads", "kv_heads", "ffn_hidden", "rope_theta", "vocabulary", "padded_vocabulary"),
    *("sequence_length", "micro_batch", "global_batch", "tensors", "parameters"),
)
_NUMBERS: Final = ("rate", "rate_max", "rate_min", "position", "warmup", "decay")
_WORDS: Final = ("style", "precision", "optimizer", "tokenizer", "deepspeed", "wrapper")


def _inside(fields: Fields) -> Inside:
    values: dict[str, Any] = {name: fields.optional(fields.integer, name) for name in _COUNTS}
    values |= {name: fields.optional(fields.number, name) for name in _NUMBERS}
    values |= {name: fields.optional(fields.line, name) for name in _WORDS}
    found = Inside(**values, moments=fields.texts("moments", 16))
    fields.end()
    return found


def _evaluation(fields: Fields) -> EvaluationSeen:
    losses = Fields(fields.mapping("losses"), "losses")
    found = EvaluationSeen(
        leg=fields.integer("leg"),
        iteration=fields.integer("iteration"),
        losses={name: losses.number(name) for name in losses.names()},
        earlier=fields.integer("earlier"),
    )
    fields.end()
    return found


def _train_log(fields: Fields) -> TrainLog:
    found = TrainLog(
        key=fields.text("key"),
        loaded_iteration=fields.optional(fields.integer, "loaded"),
        started_from_random=fields.flag("random"),
        first=tuple(_point(row) for row in fields.rows("first", PER_LOG_MAX)),
        last=tuple(_point(row) for row in fields.rows("last", PER_LOG_MAX)),
        windows=fields.each("windows", _window, PER_LOG_MAX),
        saved=fields.integers("saved", PER_LOG_MAX),
        exit_reason=fields.line("exit"),
        finished_rc=fields.optional(lambda name: fields.integer(name, -(2**31), 2**31), "rc"),
        errors=fields.texts("errors", PER_LOG_MAX),
        seconds_per_iteration=fields.optional(fields.number, "seconds"),
    )
    fields.end()
    return found


def _point(row: list[Any]) -> LogPoint:
    if len(row) != 3:
        raise Malformed("an iteration line has three numbers")
    fields = Fields(dict(zip(("iteration", "loss", "rate"), row, strict=True)), "an iteration line")
    return LogPoint(fields.integer("iteration"), fields.optional(fields.number, "loss"), fields.number("rate"))


def _window(fields: Fields) -> LogWindow:
    found = LogWindow(
        first=fields.integer("first"),
        last=fields.integer("last"),
        mean=fields.optional(fields.number, "mean"),
        low=fields.optional(fields.number, "low"),
        high=fields.optional(fields.number, "high"),
        learning_rate=fields.number("rate"),
        lines=fields.integer("lines"),
        missing=fields.integer("missing"),
        skipped=fields.integer("skipped"),
        spread=fields.optional(fields.number, "spread"),
    )
    fields.end()
    return found
