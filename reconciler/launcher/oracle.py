"""What a script will really make the launcher do: what it loads, what starts afresh, every rate, and where it stops.

From the script's text and the source checkpoint's state alone. Written from the launcher's own code (fork ffa3456d:
`helpers.sh`, `arguments.py`, `training.py`, `checkpointing.py`, `optimizer_param_scheduler.py`; DeepSpeed 0.17.5), and
sharing nothing with `launcher.command`, which it is used to judge.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from reconciler.launcher import stopping
from reconciler.launcher.forecast import ITEMS, Finding, Forecast, State, stop
from reconciler.launcher.scheduler import Schedule, WouldStop
from reconciler.launcher.scriptreader import Script
from reconciler.launcher.settings import Settings, settings_of


def foretell(
    script: Script, state: State | None = None, *, nodes: int | None = None, ranks_per_node: int | None = None
) -> Forecast:
    """What the first call of `script` does, without judging it; `reconciler.launcher.traps.judge` adds the findings."""
    return forecast_of(settings_of(script, script.calls[0], nodes=nodes, ranks_per_node=ranks_per_node), state)


def forecast_of(settings: Settings, state: State | None) -> Forecast:
    """The forecast of one call with these settings."""
    findings = list(stopping.always(settings))
    loaded, missing = _found(settings, state)
    findings += missing
    mode = stopping.mode_of(settings)
    undecided = "" if missing else _undecided(settings, state)
    kept = frozenset() if missing or undecided else _taken(settings, loaded)
    start = _start(settings, loaded, kept, undecided)
    counted = loaded.samples if loaded is not None else tagged_iteration(settings) * (settings.global_batch or 0)
    samples = counted if "scheduler" in kept else 0
    schedule: Schedule | None = None
    try:
        findings += stopping.at_load(settings, loaded, kept, mode)
        schedule = stopping.schedule_of(settings, loaded if "scheduler" in kept else None, mode)
    except WouldStop as error:
        findings.append(stop("ORA010", str(error), error.fix))
    either = "scheduler" in kept and "OVERRIDE_CKPT_OPT_PARAM" in settings.unknown  # the checkpoint's or the script's
    if either or undecided or any(finding.code.startswith("ORA01") for finding in findings):
        schedule = None
    takes_rate = loaded is not None and "optimizer" in kept
    forecast = Forecast(
        settings=settings,
        mode=mode,
        start_iteration=start,
        train_iters=settings.train_iters,
        global_batch_size=settings.global_batch,
        load=settings.load,
        save=settings.save,
        data_file_list=settings.data_file_list,
        kept=tuple(item for item in ITEMS if item in kept),
        resets=tuple(item for item in ITEMS if item not in kept and not undecided),
        stops=tuple(_stops(settings, start)),
        schedule=schedule,
        samples=samples,
        first_rate=loaded.lr if takes_rate and loaded is not None else None,
        loaded=loaded,
        findings=tuple(findings),
        undecided=undecided,
    )
    return forecast


def tagged_iteration(settings: Settings) -> int:
    """The iteration that `--load-tag` names; 0 if it names none."""
    found = re.fullmatch(r"global_step([0-9]{1,12})(?:_universal)?", settings.load_tag)
    return int(found[1]) if found else 0


def same_folder(left: str, right: str) -> bool:
    """Whether two spellings can be one folder: a relative one fits the end of an absolute one."""
    left, right = _tidy(left), _tidy(right)
    if left.startswith("/") == right.startswith("/"):
        return left == right
    short, long = sorted((left, right), key=len)
    return long.endswith("/" + short)


def loads_where_it_saves(settings: Settings) -> bool:
    """Whether LOAD is SAVE, as paths or as it is written."""
    return same_folder(settings.load, settings.save) or settings.load in ("$SAVE", "${SAVE}")


def _tidy(path: str) -> str:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if parts and re.fullmatch(r"global_step[0-9]+(_universal)?", parts[-1]):
        parts.pop()
    return ("/" if path.startswith("/") else "") + "/".join(parts)


def _found(settings: Settings, state: State | None) -> tuple[State | None, list[Finding]]:
    """The checkpoint that the launcher finds at LOAD, and what to say when it finds none."""
    if re.search(r"(?:^|/)global_step[0-9]+(_universal)?/*$", settings.load):
        parent = settings.load.rstrip("/").rpartition("/")[0] or "."
        why = f"LOAD={settings.load} is the folder of one checkpoint; the launcher looks for `latest` in it, finds none"
        return None, [_random(why, f"set LOAD={parent}, and add --load-tag={settings.load.rstrip('/').split('/')[-1]}")]
    if state is None:
        return None, []
    if state.path and not settings.hides("LOAD") and not same_folder(settings.load, state.path):
        made_up = "" if settings.given("LOAD") else " (LOAD is not set, so the launcher made the name up)"
        why = f"the checkpoint is in {state.path}, but LOAD is {settings.load}{made_up}: no checkpoint is found there"
        return None, [_random(why, f"set LOAD={_tidy(state.path)}")]
    return state, []


def _random(why: str, fix: str) -> Finding:
    return Finding("ORA020", f"training will start from random weights: {why}, and goes on", fix)


def _undecided(settings: Settings, state: State | None) -> str:
    """Why it is not known what is loaded and what starts afresh; empty if it is.

    A described checkpoint is taken to be what LOAD names. A flag of a first job says that LOAD is no folder of the
    stage's own, unless both are written alike.
    """
    if settings.open_arguments:
        return f"argument {settings.open_arguments[0][:80]}, which may be any flags"
    if state is not None:
        return ""
    told = settings.has("finetune") or settings.has("reset-iteration") or settings.has("load-tag")
    if settings.hides("LOAD") and (not told or loads_where_it_saves(settings)):
        return _as_written("LOAD", settings.load)
    if settings.given("LOAD") and settings.hides("SAVE") and not told:
        return f"{_as_written('SAVE', settings.save)}, which may be LOAD, with or without a checkpoint in it"
    return ""


def _as_written(name: str, text: str) -> str:
    return name if text == f"${name}" else f"{name}={text[:80]}"


def _start(settings: Settings, loaded: State | None, kept: frozenset[str], undecided: str) -> int | None:
    """Where the iteration counter stands; None when it is loaded, or may be, and nothing says where."""
    if settings.has("finetune") or settings.has("reset-iteration"):
        return 0
    if undecided:
        return None
    if "iteration" not in kept:
        return 0
    return loaded.iteration if loaded is not None else tagged_iteration(settings) or None


def _taken(settings: Settings, loaded: State | None) -> frozenset[str]:
    """What is taken from the checkpoint, of `ITEMS`.

    Without a description of a checkpoint this is what the flags would do with one, if LOAD is not where it saves.
    """
    elsewhere = not same_folder(settings.load, settings.save)
    named = settings.hides("LOAD") or bool(settings.given("LOAD"))
    if loaded is None and not (named and (elsewhere or bool(settings.load_tag))):
        return frozenset()
    if settings.has("finetune"):
        # A universal checkpoint's optimizer states are loaded whatever the flags say (contract 2.2).
        return frozenset({"weights", "optimizer"} if settings.has("universal-checkpoint") else {"weights"})
    kept = set(ITEMS)
    if settings.has("reset-iteration"):
        kept -= {"iteration", "data"}
    if settings.has("no-load-rng"):
        kept -= {"rng"}
    return frozenset(kept)


def _stops(settings: Settings, start: int | None) -> Iterator[str]:
    if settings.has("skip-train"):
        yield "at once: --skip-train only evaluates"
    every = settings.flags.get("exit-interval", "")
    target = settings.train_iters
    if every.isdigit() and len(every) < 18 and int(every) > 0:
        end = None if start is None else (start // int(every) + 1) * int(every)
        if end is None:
            yield f"at the next multiple of {int(every):,} iterations: --exit-interval={every}"
        elif target is None or end < target:
            yield f"at iteration {end:,}: --exit-interval={every}"
    if settings.flags.get("exit-duration-in-mins"):
        yield f"after {settings.flags['exit-duration-in-mins']} minutes: --exit-duration-in-mins, counted from import"
    if settings.flags.get("kill-switch-file"):
        yield f"when {settings.flags['kill-switch-file']} exists (kill switch; it saves first)"
    if target is not None:
        yield f"at iteration {target:,}: the target"
