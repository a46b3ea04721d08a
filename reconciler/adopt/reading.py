"""A run as it was found → what its checkpoint, logs, script and folder say of it, in the manifests' words. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from reconciler.adopt import launcher_names as names
from reconciler.adopt.facts import Fact, Known, Value, Witness, truth
from reconciler.domain import foldername
from reconciler.launcher.oracle import same_folder
from reconciler.launcher.scriptreader import Call, NoCall, Script, Unreadable, read_script
from reconciler.launcher.settings import ARCHITECTURES, Architecture, settings_of
from reconciler.model.legacy import Run, RunJob, RunLog, Said, Survey
from reconciler.model.observed import CheckpointSeen


@dataclass(frozen=True, slots=True)
class Launched:
    """The call that launched a run."""

    path: str
    script: Script
    call: Call


def logs_of(run: Run, save: CheckpointSeen) -> tuple[RunLog, ...]:
    """Logs of the jobs up to the checkpoint, in the order in which they trained."""
    trained = [log for log in run.logs if log.first is not None and log.first <= save.iteration]
    return tuple(sorted(trained, key=lambda log: (log.first or 0, log.changed_s)))


def known_of(run: Run, save: CheckpointSeen, survey: Survey, ranks: int) -> tuple[Known, list[str]]:
    """All that is said of the run that ended at this checkpoint, and what of it could not be read. `ranks` are those of
    one node."""
    trouble: list[str] = []
    launched = _launched(run, survey, trouble)
    witnesses = [_inside(run, save), *(_log(log) for log in reversed(logs_of(run, save))), _environment(run)]
    witnesses += [_script(launched, ranks)] if launched is not None else []
    folder = _folder(run)
    witnesses += [folder, _jobs(run, survey)]
    so_far = Known(witnesses)
    architecture = _architecture(so_far)
    scheme = foldername.of_path(run.folder.rsplit("/", 1)[-1])
    old = scheme is not None and scheme.old
    return Known([*witnesses, _sizes(architecture, so_far), _defaults(old)]), trouble


# --- one witness each


def _inside(run: Run, save: CheckpointSeen) -> Witness:
    """The arguments that a checkpoint keeps, and what this one says of its schedule and sizes."""
    facts = dict(_arguments(run.arguments, lambda name: f"from {run.inside_file} (args.{name})"))
    inside = save.inside
    if inside is None:
        return Witness(facts)
    name = f"from global_step{save.iteration}" + ("_universal" if save.universal else "")
    told: dict[str, tuple[Value | None, str]] = {
        "vocabulary": (inside.vocabulary, "universal_checkpoint_info"),
        "data_parallel": (inside.data_parallel, "dp_world_size"),
        "global_batch": (inside.global_batch, "args.global_batch_size"),
        "rate": (inside.rate_max, "lr_scheduler.max_lr"),
        "rate_min": (inside.rate_min, "lr_scheduler.min_lr"),
        "style": (inside.style, "lr_scheduler.lr_decay_style"),
    }
    facts |= {key: Fact(value, f"{name} ({where})") for key, (value, where) in told.items() if value is not None}
    lengths = {"position": "num_steps", "warmup": "lr_warmup_steps", "decay": "lr_decay_steps"}
    for key, where in lengths.items():
        samples = getattr(inside, key)  # the scheduler counts samples
        if samples is not None and inside.global_batch:
            facts[key] = Fact(samples / inside.global_batch, f"{name} (lr_scheduler.{where})")
    return Witness(facts)


def _log(log: RunLog) -> Witness:
    name = _short(log.path)
    facts = dict(_arguments(log.arguments, lambda argument: f"from the log's arguments ({name}, {argument})"))
    if log.batch:
        facts["global_batch"] = Fact(log.batch, f"from the log ({name}, iteration {log.last})")
    if log.target and "train_iterations" not in facts:
        facts["train_iterations"] = Fact(log.target, f"from the log ({name}, iteration {log.last}/{log.target})")
    return Witness(facts)


def _arguments(arguments: Mapping[str, Said], told: Callable[[str], str]) -> Iterator[tuple[str, Fact]]:
    for name, argument in names.ARGUMENTS.items():
        value = arguments.get(argument)
        if value is not None and value != "None":
            yield name, Fact(value, told(argument))
    for precision in ("bf16", "fp16"):
        if truth(arguments.get(precision)):
            yield "precision", Fact(precision, told(precision))


def _environment(run: Run) -> Witness:
    return Witness(dict(_variables(run.environment, lambda name: f"from .env beside the checkpoints ({name})")))


def _variables(environment: Mapping[str, str], told: Callable[[str], str]) -> Iterator[tuple[str, Fact]]:
    for name, variable in names.VARIABLES.items():
        if environment.get(variable):
            yield name, Fact(environment[variable], told(variable))


def _launched(run: Run, survey: Survey, trouble: list[str]) -> Launched | None:
    """The last call that saves where the run lies; a lone script's lone call, if nothing else is named."""
    calls: list[Launched] = []
    for found in survey.scripts:
        try:
            script = read_script(found.text)
        except (NoCall, Unreadable) as problem:
            trouble.append(f"{found.path}: {problem}")
            continue
        calls += [Launched(found.path, script, call) for call in script.calls]
    here = [each for each in calls if _saves_in(each, run.folder)]
    if here:
        return here[-1]
    named = [
        each for each in calls if not each.call.environment.get("SAVE") and not each.call.environment.get("CKPT_DIR")
    ]
    return named[0] if len(named) == len(calls) == 1 and len(survey.runs) == 1 else None


def _saves_in(each: Launched, folder: str) -> bool:
    settings = settings_of(each.script, each.call)
    return same_folder(settings.save, folder)


def _script(launched: Launched, ranks: int) -> Witness:
    """What the call gives, and what the launcher would make of it; not the launcher's own defaults."""
    settings = settings_of(launched.script, launched.call, ranks_per_node=ranks)
    source = f"from {_short(launched.path)}, the call on line {launched.call.line}"
    given = {**launched.call.environment}
    facts = dict(_variables(given, lambda name: f"{source} ({name})"))
    for name, flag in (
        ("rate_min", "min-lr"),
        ("seed", "seed"),
        ("cooldown_fraction", "lr_constant_plus_cooldown_frac"),
    ):
        if settings.flags.get(flag):
            facts[name] = Fact(settings.flags[flag], f"{source} (--{flag})")
    for name, flag in (("cooldown", "lr_constant_plus_cooldown"), ("finetune", "finetune")):
        if settings.has(flag):
            facts[name] = Fact(value=True, source=f"{source} (--{flag})")
    worked_out: dict[str, Value | None] = {
        "sequence_length": settings.seq if "SEQ" in given else None,
        "global_batch": settings.global_batch,
        "data_parallel": settings.data_parallel,
        "world_size": settings.world_size,
        "nodes": settings.nodes,
        "walltime_s": launched.script.walltime_s,
        "train_iterations": settings.train_iters
        if {"TRAIN_TOKENS", "TRAIN_ITERS", "TRAIN_ITER"} & set(given)
        else None,
        "rate": settings.lr if "LR" in given or settings.flags.get("lr") else None,
        "style": settings.style if "LR_DECAY_STYLE" in given or settings.flags.get("lr-decay-style") else None,
        "model_arch": settings.architecture if "MODEL_ARCH" in given else None,
    }
    facts |= {name: Fact(value, source) for name, value in worked_out.items() if value is not None}
    return Witness(facts)


def _folder(run: Run) -> Witness:
    """What the launcher wrote into the folder's name."""
    name = run.folder.rsplit("/", 1)[-1]
    found = foldername.of_path(name)
    if found is None:
        return Witness({})
    begins, goes_on = names.ARCHITECTURE.match(name), names.SCHEDULE.match(name[len(found.text) :])
    words = {**(begins.groupdict() if begins else {}), **(goes_on.groupdict() if goes_on else {})}
    iterations = int(words.pop("billions", None) or 0) * 10**9 // max(1, found.sequence_length * found.global_batch)
    said: dict[str, Value | None] = {
        "world_size": found.world,
        "zero_stage": found.zero_stage,
        "layers": found.layers,
        "hidden": found.hidden,
        "micro_batch": found.micro_batch,
        "sequence_length": found.sequence_length,
        "global_batch": found.global_batch,
        "tensor": found.tensor,
        "pipeline": found.pipeline,
        "data_parallel": found.data_parallel,
        "precision": found.precision,
        "optimizer": found.optimizer,
        **words,
        "train_iterations_about": iterations or None,
    }
    return Witness({key: Fact(value, "from the folder's name") for key, value in said.items() if value is not None})


def _jobs(run: Run, survey: Survey) -> Witness:
    """What PBS remembers of the run's jobs."""
    jobs = [job for job in survey.jobs if job.run == run.folder]
    facts: dict[str, Fact] = {}
    for job in jobs:
        if job.nodes:
            facts["nodes"] = Fact(job.nodes, _of_job(job))
        if job.walltime and (seconds := _seconds(job.walltime)):
            facts["walltime_s"] = Fact(seconds, _of_job(job))
    return Witness(facts)


def _of_job(job: RunJob) -> str:
    return f"from PBS's history (job {job.job_id})"


def _seconds(clock: str) -> int:
    parts = clock.split(":")
    if not all(part.isdigit() and len(part) <= 6 for part in parts) or len(parts) > 3:
        return 0
    seconds = 0
    for part in parts:
        seconds = seconds * 60 + int(part)
    return seconds


# --- what follows from the others, and what the launcher does unasked


def _architecture(known: Known) -> Architecture | None:
    """The launcher's, by its name, else the one with these layers and this width."""
    named = known.text("model_arch")
    by_name = next((a for a in ARCHITECTURES if named and (named in a.spellings or named == a.name)), None)
    if by_name is not None:
        return by_name
    sizes = (known.integer("layers"), known.integer("hidden"))
    fixed = next((a for a in ARCHITECTURES if a.layers and (a.layers, a.hidden) == sizes), None)
    return fixed or (ARCHITECTURES[-1] if sizes == (32, 4096) else None)


def _sizes(of: Architecture | None, known: Known) -> Witness:
    """The sizes that the launcher has for an architecture by itself."""
    if of is None:
        return Witness({}, evidence=False)
    seven: dict[str, int] = {
        "heads": 32,
        "layers": 32,
        "hidden": 4096,
        "kv_heads": 8,
        "ffn_hidden": 11008,
        "sequence_length": 4096,
    }
    own: dict[str, int | None] = {
        "heads": of.heads,
        "layers": of.layers,
        "hidden": of.hidden,
        "kv_heads": of.kv_heads,
        "ffn_hidden": of.ffn_hidden,
        "sequence_length": of.seq,
    }
    sizes = {name: value for name, value in own.items() if value is not None}
    if of is ARCHITECTURES[-1]:
        # Its sizes are read from the environment: those of 7B hold where nothing says that it is another model.
        other = any((n := known.integer(name)) is not None and n != seven[name] for name in ("layers", "hidden"))
        sizes = {} if other else seven
    facts = {name: Fact(value, f"as the launcher has it for {of.name}") for name, value in sizes.items()}
    return Witness(facts | {"model_arch": Fact(of.spellings[0], "by layers and hidden size")}, evidence=False)


def _defaults(old: bool) -> Witness:
    when = "the launcher's default before August 2025" if old else "the launcher's default"
    told = {
        name: Fact(value, "the launcher's default; nothing says otherwise") for name, value in names.DEFAULTS.items()
    }
    since: Mapping[str, Value] = names.DEFAULTS_BEFORE if old else names.DEFAULTS_SINCE_2025_08
    told |= {name: Fact(value, f"{when}; nothing says otherwise") for name, value in since.items()}
    return Witness(told, evidence=False)


def _short(path: str) -> str:
    """The end of a path, which is what a person knows a file by: `20251110-094336_96_x4705/output.log`."""
    parts = path.rsplit("/", 2)
    return "/".join(parts[-2:]) if parts[-1] == "output.log" else parts[-1]
