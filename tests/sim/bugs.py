"""Deliberate bugs: each is one edit of the real code, and the simulator must catch it.

Most are caught by the ordinary seeds. Those that need several rare things at once say which faults their seeds have
often (`likely`).
"""

from __future__ import annotations

from tests.sim.planting import Bug

BUGS = (
    Bug(
        "the journal is written after the effect",
        "agent",
        "            self.journal.write(entry)\n            try:\n",
        "            try:\n",
    ),
    Bug(
        "the intent is not made safe",
        "agent",
        "        os.fsync(file.fileno())\n    os.rename(temporary, path)\n    sync_folder(folder)",
        "    os.rename(temporary, path)\n",
    ),
    Bug(
        "the folder of the journal is not made safe",
        "agent",
        "                sync_readable(above)\n",
        "",
    ),
    Bug(
        "the lock is ignored",
        "agent",
        "            if self._create(mine, nonce):\n                return note\n",
        "            self._create(mine, nonce)\n            return note\n",
        hint=8,
    ),
    Bug(
        "a job without a readable answer is left out",
        "agent",
        "return [self.found.get(job_id) or unread[job_id] for job_id in self.ids if job_id not in self.gone] + odd",
        "return [self.found[job_id] for job_id in self.ids if job_id in self.found]",
        likely=("qstat: cut", "qstat: empty", "qstat: garbage"),
        hint=12,
    ),
    Bug(
        "a job that a routing queue hides was never queued",
        "agent",
        "            return self.on_its_way(entry)\n",
        '            return ""\n',
        likely=("job: on its way through a routing queue", "qsub: dies after it queued", "qsub: answer lost"),
    ),
    Bug("a live job counts as ended", "reconciler.planner.evidence:Evidence.live", "if job.live)", "if False)"),
    Bug(
        "a refusal for good is tried again",
        "agent",
        '            if not action["retry"]:\n'
        '                return outcome(key, "refused", "refused before: {}".format(entry.get("message")))\n',
        "",
        likely=("qsub: refused for good", "person: acts on an old look"),
    ),
    Bug(
        "the tracker is not asked for",
        "agent",
        "why = files_wanting(files, data_parallel) or pointer_wanting(step, tracker, newest=steps[-1])",
        'why = ""',
        likely=("train: node dies while saving",),
    ),
    Bug(
        "a damaged answer is accepted",
        "reconciler.cluster.frames:decode",
        'elif hashlib.sha256(payload).hexdigest().encode("ascii") != found[2]:',
        "elif False:",
        likely=("link: answer damaged",),
    ),
    Bug(
        "an unread table is an empty one",
        "reconciler.planner.look:whole",
        "    if isinstance(jobs, Unread):\n",
        "    if isinstance(jobs, Unread):\n        jobs = ()\n    if isinstance(jobs, str):\n",
    ),
    Bug(
        "a key does not count the jobs that have ended",
        "reconciler.planner.jobs:Workshop.key",
        "self.recipe.attempt, leg, ended, kind",
        "self.recipe.attempt, leg, 0, kind",
    ),
    Bug(
        "first-job flags are repeated on a later job",
        "reconciler.launcher.command:train",
        "    first = not later\n",
        "    first = True\n",
    ),
    Bug(
        "a resume trusts `latest`",
        "reconciler.planner.jobs:Workshop._load",
        'return self._absolute(f"leg-{leg}"), newest, False',
        'return self._absolute(f"leg-{leg}"), None, False',
        likely=("train: node dies while saving", "train: disk full while saving"),
    ),
    Bug(
        "a job that has ended is done, whatever it left",
        "reconciler.planner.steps:_train_step",
        "if trained >= leg.iterations:",
        "if ended:",
    ),
    Bug(
        "a stage is done without its verdict",
        "reconciler.planner.steps:next_step",
        "    if verdict is not None:\n",
        "    if verdict is None and attempt.evidence.trained_iterations():\n"
        "        return Judged(judging.verdict_of(attempt, ()))\n    if verdict is not None:\n",
    ),
    Bug(
        "a gate is not asked",
        "reconciler.planner.judging:results",
        "if before is not None and after is not None and (limits := _limits(attempt)) is not None:",
        "if False:",
    ),
    Bug(
        "a gate compares a checkpoint with itself",
        "reconciler.planner.judging:results",
        "before, after = baseline_of(attempt), final_losses(attempt)",
        "before = after = baseline_of(attempt)",
    ),
    Bug(
        "a budget is one save too long",
        "reconciler.domain.budget:iterations_for",
        "        if count >= 1 and count % save_every != 0:\n            return count\n",
        "        return count + save_every + 1\n",
    ),
    Bug(
        "the warm-up is forgotten",
        "reconciler.domain.schedule:curve_of",
        "warmup = min(math.ceil(Fraction(policy.warmup) * iterations), iterations - 1)",
        "warmup = 0",
    ),
    Bug(
        "the cooldown begins at once",
        "reconciler.launcher.command:_schedule",
        "share = Fraction(end - curve.start, end)",
        "share = Fraction(1)",
    ),
    Bug(
        "the buffer holds the stage's own data",
        "reconciler.domain.resolve:mixture_definitions",
        "catalog.buffer_at(campaign, stage.metadata.name)",
        "(*catalog.buffer_at(campaign, stage.metadata.name), catalog.dataset_of(stage).spec.symbol)",
    ),
    Bug(
        "a conversion is left out",
        "reconciler.planner.jobs:Workshop._load",
        "if needs_conversion(self.recipe):",
        "if False:",
        60,
    ),
    Bug(
        "jobs may start again by themselves",
        "reconciler.cluster.render:_directives",
        '        "-r n",\n',
        "",
        likely=("job: its node is lost",),
    ),
)
