"""Deliberate bugs that a story catches (`stories.py`): each takes away the one protection that its story is about.

What a protection is for is in the story. Those that undo the mend of something that the simulator found say so.
"""

from __future__ import annotations

from tests.sim.planting import Bug

STORY_BUGS = (
    # --- bounds and permissions
    Bug(
        "attempts at a stage have no bound",
        "reconciler.planner.climb:_after_failure",
        "if failures >= spec.bounds.attempts_per_stage:",
        "if False:",
        story="one attempt is allowed",
    ),
    Bug(
        "jobs of an attempt have no bound",
        "reconciler.planner.steps:_train_hold",
        "if jobs_ended >= bound:",
        "if False:",
        story="one job is allowed",
    ),
    Bug(
        "node-hours have no bound",
        "reconciler.planner.permission:withheld",
        "if spent >= float(bound):",
        "if False:",
        story="node hours are spent",
    ),
    Bug(
        "a stage is begun that node-hours do not reach for",
        "reconciler.planner.forecast:over_allocation",
        "if not total.over or not new:",
        "if True:",
        story="node hours would not do",
    ),
    Bug(
        "a suspended stage submits",
        "reconciler.planner.permission:withheld",
        "if stage.spec.suspend:",
        "if False:",
        story="a stage is suspended",
    ),
    # --- what training shows
    Bug(
        "a lost loss is not noticed",
        "reconciler.domain.gates:diverged",
        "if all(point.loss is None for point in last):",
        "if False:",
        story="a loss is lost",
    ),
    Bug(
        "a job that lost its loss runs on",
        "reconciler.planner.steps:_wrong",
        "diverged = gates.diverged(log, attempt.vocabulary)",
        "diverged = None",
        story="a loss is lost",
    ),
    Bug(
        "recovery is not asked for",
        "reconciler.planner.judging:results",
        "if asked.recovery is not None:",
        "if False:",
        story="a loss does not recover",
    ),
    Bug(
        "recovery is judged by the last job alone",
        "reconciler.planner.judging:results",
        "gates.recovery(attempt.evidence.leg(leg).logs, ",
        "gates.recovery(attempt.evidence.leg(leg).logs[-1:], ",
        story="a loss does not recover",
    ),
    Bug(
        "what a load goes on from is not looked at",
        "reconciler.planner.loads:load_of",
        "if gate is None or key.leg >= len(recipe.legs):",
        "if True:",
        story="a load is bad",
    ),
    Bug(
        "what a rung is for is not asked",
        "reconciler.planner.climb:_skipped",
        'return "" if rung.begun else not_tried(rung.strategy, _gates(failed), used)',
        'return ""',
        story="a rung is not for this failure",
    ),
    Bug(
        "tokens have no bound",
        "reconciler.planner.permission:withheld",
        "if over is not None:",
        "if False:",
        story="tokens are spent",
    ),
    Bug(
        "the first pilot that is judged is chosen",
        "reconciler.planner.trial:decide",
        "if judged < len(pilots):",
        "if judged < 1:",
        story="two mixes are tried",
    ),
    Bug(
        "the worst pilot is chosen",
        "reconciler.planner.trial:_compared",
        "key=lambda pilot: _rank(pilot.mean))",
        "key=lambda pilot: -_rank(pilot.mean))",
        story="two mixes are tried",
    ),
    Bug(
        "a checkpoint is evaluated beside a live job",
        "reconciler.planner.steps:next_step",
        "    if live:\n",
        "    if live and judging.due(attempt) is None:\n",
        story="a checkpoint is evaluated on the way",
    ),
    Bug(
        "nothing is evaluated on the way",
        "reconciler.planner.judging:due",
        "if gate is None or gate.every is None or not attempt.old_sets or baseline_of(attempt) is None:",
        "if True:",
        story="a checkpoint is evaluated on the way",
    ),
    Bug(
        "what forgets is trained to its end",
        "reconciler.planner.steps:_on_the_way_step",
        "if verdict is not None:",
        "if False:",
        story="what forgets ends early",
    ),
    Bug(
        "one evaluation on the way ends an attempt",
        "reconciler.domain.gates:forgetting_on_the_way",
        "if not old_sets or len(last) < gate.consecutive:",
        "if not old_sets or not last:",
        story="one evaluation on the way is not enough",
    ),
    Bug(
        "the stop file stays",
        "reconciler.planner.jobs:Workshop.train",
        'remove = [f"{self.folder}/stop"]',
        "remove: list[str] = []",
        story="a person asks a job to stop",
    ),
    Bug(
        "a shard that is cut short counts",
        "agent",
        "            why = cut_short(path, files)\n",
        '            why = ""\n',
        story="a save is damaged",
    ),
    Bug(
        "shards are not counted",
        "agent",
        "    if len(shards) != wanted or max(rank for rank, _ in shards) != data_parallel - 1:",
        "    if not shards:",
        story="a shard is lost",
    ),
    Bug(
        "a recipe that was deleted is not written again",
        "reconciler.planner.steps:next_step",
        "if evidence.recipe_wanting():",
        "if False:",
        story="a recipe is deleted",
    ),
    Bug(
        "a folder that cannot be looked at is not there",
        "agent",
        "        return stat.S_ISDIR(os.stat(path).st_mode)\n    except (FileNotFoundError, NotADirectoryError):\n",
        "        return stat.S_ISDIR(os.stat(path).st_mode)\n    except OSError:\n",
        story="a folder cannot be looked at",
    ),
    Bug(
        "a pointer to what was cut off stays",  # seeds 38, 62
        "reconciler.planner.jobs:Workshop.train",
        'remove.append(f"{self.folder}/leg-{leg}/latest")',
        "pass",
        story="each first save that is cut off",
    ),
    Bug(
        "a pointer that was cut is none",
        "agent",
        "None if pointer is None else 0",
        "None",
        story="the pointer of a first save is cut",
    ),
    Bug(
        "a leg that a person let start over is stopped for it",  # seed 253
        "reconciler.planner.steps:_lost_checkpoint",
        "moved = had_one and seen.started_from_random",
        "moved = False",
        story="checkpoints are lost and set aside",
    ),
    # --- conversion, evaluation, verdict
    Bug(
        "a conversion is taken without its receipt",
        "agent",
        "    check_inside(path)\n    try:\n        receipt",
        "    return int(found.group(1))\n    try:\n        receipt",
        story="a conversion is damaged",
    ),
    Bug(
        "the files of a conversion are not measured",
        "agent",
        "os.stat(os.path.join(path, file)).st_size != size:",
        "size < 0:",
        story="a conversion is damaged",
    ),
    Bug(
        "a gate is judged on a part of the evaluation",
        "reconciler.planner.judging:_complete",
        "return seen.losses if seen and set(attempt.validation_sets) <= set(seen.losses) else None",
        "return {**dict.fromkeys(attempt.validation_sets, 0.0), **seen.losses} if seen and seen.losses else None",
        story="an evaluation has a part of its losses",
    ),
    Bug(
        "a stage is judged before it is evaluated",
        "reconciler.planner.steps:next_step",
        "        or _evaluate_step(attempt)\n",
        "",
        story="an evaluation has a part of its losses",
    ),
    Bug(
        "a gate without what it compares with is left out",  # seed 10808
        "reconciler.planner.steps:next_step",
        "        or _baseline_step(attempt)\n",
        "",
        story="the losses of the source are lost",
    ),
    Bug(
        "losses of another checkpoint are taken",
        "reconciler.planner.evidence:Evidence.evaluation",
        "if (e.leg, e.iteration) == (leg, iteration)",
        "if e.losses",
        story="a validation set is exchanged",
    ),
    Bug(
        "losses on a set that was exchanged are taken",
        "reconciler.planner.lists:result_name",
        'identity = f"{digest}/{samples}/{sequence_length}"',
        'identity = f"{samples}/{sequence_length}"',
        story="a validation set is exchanged",
    ),
    Bug(
        "a verdict is written over",
        "agent",
        "        elif there and not replace:\n",
        "        elif False:\n",
        story="a verdict is judged by two",
    ),
    Bug(
        "a verdict does not end an attempt",
        "reconciler.planner.steps:next_step",
        "    if verdict is not None:\n",
        "    if False:\n",
        story="a verdict is judged by two",
    ),
    Bug(
        "an edited list is the same recipe",
        "reconciler.domain.resolve:_leg",
        'lists={symbol: lists.get(symbol, "") for symbol in drawn},',
        'lists={symbol: "" for symbol in drawn},',
        story="a list is edited",
    ),
    # --- two at once
    Bug(
        "a lock that was taken away goes unnoticed",
        "agent",
        '            if not self.lock.held_by(self.request["nonce"]):\n',
        "            if False:\n",
        story="the lock is taken away",
    ),
    Bug(
        "a qsub is started long after its intent",  # seed 11650
        "agent",
        "                if time.monotonic() - begun > STOOD_STILL_S:\n",
        "                if False:\n",
        story="an agent stands still before its qsub",
    ),
    Bug(
        "every lock is stale",
        "agent",
        'if not is_stale(found) or not self._drop(found["nonce"]):',
        'if not self._drop(found["nonce"]):',
        story="the lock is taken while somebody looks",
    ),
    Bug(
        "the job table is read before the lock is taken",
        "agent",
        '    note = lock.acquire(request["nonce"], request["holder"])\n    try:\n'
        "        if overtaken(disk, request):\n",
        '    early = Work(request, disk, Pbs(request["pbs_timeout_s"]), lock, clock)\n'
        "    with contextlib.suppress(Unreadable, Refused):\n"
        '        early.entries = early.journal.entries(request["campaign"])\n        early.table()\n'
        "        Work.table = lambda self: early.known or []\n"
        '    note = lock.acquire(request["nonce"], request["holder"])\n    try:\n'
        "        if overtaken(disk, request):\n",
        story="an apply waits while another asks",
    ),
    Bug(
        "what cannot be read is an empty table",
        "agent",
        "                self.unreadable = str(unreadable)\n                raise\n",
        "                self.known = []\n",
        story="the table cannot be read any more",
    ),
    Bug(
        "a qsub that may still run is not waited for",
        "agent",
        '        return guarded and entry.get("machine") == self.machine\n',
        "        return True\n",
        story="a qsub hangs on another node",
    ),
    Bug(
        "files are not locked",
        "agent",
        "        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
        "        pass\n",
        story="a qsub hangs on this node",
    ),
    Bug(
        "an intent is not healed from the table",
        "agent",
        '        same = [job for job in table if job["key"] == key]\n',
        "        same = []  # type: List[Json]\n",
        story="a job is deleted that nobody knew",
    ),
    Bug(
        "a status nobody knows is a refusal",
        "agent",
        '        return outcome(key, "unknown", "qsub ended with status {}: {}".format(status, told or "no message"))',
        '        self.withdraw(action)\n        return outcome(key, "deferred", "not now")',
        story="qsub ends with a status nobody knows",
    ),
    Bug(
        "half a request is carried out",
        "agent",
        '    if len(body) != size or hashlib.sha256(body).hexdigest().encode("ascii") != head.group(3):\n'
        "        raise SystemExit(71)\n",
        "    body = body[: body.rfind(b'}') + 1] or b'{\"operation\": \"observe\"}'\n",
        story="a request is cut off",
    ),
    Bug(
        "a log tells nothing where there is no entry",
        "agent",
        'job_id = self.answered(key) or left_in_log(self.disk.place(action["job"]["log"]))',
        'job_id = entry and (self.answered(key) or left_in_log(self.disk.place(action["job"]["log"])))',
        story="a journal entry is deleted",
    ),
    Bug(
        "a script without an entry is no sign of a job",  # seed 101196
        "agent",
        "else self.flights.hidden(script)\n",
        'else ""\n',
        story="a journal entry is deleted of a job that is not listed",
    ),
    Bug(
        "an attempt without an entry is a new one",  # seed 42917
        "agent",
        "        traces += {attempt_of(key) for key in jobs} - tried\n",
        "",
        story="a journal and the folder of a script are deleted",
    ),
    Bug(
        "two jobs run under one key",
        "template guard.pbs",
        'if [ "$began" != "$job" ]; then\n',
        "if false; then\n",
        story="pbs lists nothing with status 0",
    ),
    Bug(
        "a job goes back behind a later one",  # seed 210457
        "template guard.pbs",
        '[ "$counted" -gt "$number" ]',
        "false",
        story="a job is hidden until a later one has run",
    ),
    Bug(
        "a job does not lock its attempt",
        "template guard.pbs",
        "flock --nonblock 9\n",
        "true\n",
        story="two jobs begin where flock works",
    ),
    Bug(
        "a job does not look for other writers",
        "template guard.pbs",
        'for writer in "$attempt"/writers/*; do\n',
        "for writer in; do\n",
        story="two jobs begin where flock does not",
    ),
    Bug(
        "job scripts have no guard",
        "template train.pbs",
        '{% include "guard.pbs" %}\n',
        "",
        story="two jobs begin where flock works",
    ),
    Bug(
        "a job locks nothing, and PBS denies the one beside it",
        "template guard.pbs",
        "flock --nonblock 9\n",
        "true\n",
        story="a running job is denied and known again",
    ),
    Bug(
        "a lock that is free is enough",
        "template guard.pbs",
        'for writer in "$attempt"/writers/*; do\n',
        "for writer in; do\n",
        story="the lock of a running job is deleted",
    ),
    Bug(
        "output that is seen late is not waited for",
        "reconciler.planner.ended:_ending",
        "if not job.live and just_now and not",
        "if False and not",
        story="the output of an evaluation is seen late",
    ),
    # --- crashes of the file server
    Bug(
        "files of an action are not made safe",
        "agent",
        "        write_whole(path, data)\n        if read_whole(path, len(data) + 1) != data:\n",
        '        with os.fdopen(fresh_file(path), "wb") as file:\n            file.write(data)\n'
        "        sync_folder(os.path.dirname(path))\n        if read_whole(path, len(data) + 1) != data:\n",
        story="the file server crashes after qsub",
    ),
    Bug(
        "the folder of a file of an action is not made safe",
        "agent",
        "        write_whole(path, data)\n        if read_whole(path, len(data) + 1) != data:\n",
        '        with os.fdopen(fresh_file(path), "wb") as file:\n            file.write(data)\n'
        "            file.flush()\n            os.fsync(file.fileno())\n"
        "        if read_whole(path, len(data) + 1) != data:\n",
        story="the file server crashes after qsub",
    ),
    Bug(
        "a file that lies there is safe",  # seed 39
        "agent",
        "            sync_folder(os.path.dirname(path))  # whoever wrote it may have been killed just before that\n",
        "",
        story="an agent is killed after a rename and the file server crashes",
    ),
    Bug(
        "the log of a job is no sign of it",  # seed 43
        "agent",
        ' or left_in_log(self.disk.place(action["job"]["log"]))',
        "",
        story="a job ends before anybody looks",
    ),
    Bug(
        "what was found of a lost checkpoint is taken for the new one's",  # seed 203214
        "reconciler.planner.steps:_train_step",
        "gone = evidence.evaluated_beyond(index, iteration or 0)",
        "gone = ()",
        story="a checkpoint is lost that was evaluated",
    ),
    Bug(
        "a job that the journal does not know is not asked how it went",  # seed 203214
        "reconciler.planner.evidence:Evidence.last_run",
        "for log in self.leg(leg).logs:",
        "for log in ():",
        story="a job starts from random whose qsub left no answer",
    ),
    Bug(
        "a folder that is there is taken for safe",  # seed 204337
        "agent",
        "            if path not in self.safe:\n",
        "            if path not in self.safe and not is_folder(path):\n",
        story="somebody has made the folder of the journal",
    ),
    Bug(
        "a leg that a later one went on from is trained again",  # seed 506542
        "reconciler.planner.evidence:Evidence.trained",
        "leg.iterations if index < at else min(newest.get(index, 0), leg.iterations)",
        "min(newest.get(index, 0), leg.iterations)",
        story="the end of a leg is lost that the next went on from",
    ),
    # --- the record
    Bug(
        "a job whose qsub left no answer is not on record",  # seed 700005
        "reconciler.planner.facts:_actions",
        "or receipt.failed is not None or receipt.key in ran",
        "or receipt.failed is not None",
        story="a job starts from random whose qsub left no answer",
    ),
    # --- retention
    Bug(
        "a folder is set aside before the journal tells of it",
        "agent",
        "            journal.write(dict(intent, folders=going))\n",
        "",
        story="needless folders are pruned",
    ),
    Bug(
        "a folder is deleted where it lies",
        "agent",
        "                os.rename(name, aside, src_dir_fd=folder, dst_dir_fd=folder)\n",
        "                self.delete_tree(folder, name, 0)\n",
        story="needless folders are pruned",
    ),
    Bug(
        "the newest and the end of a leg, which is a source, are pruned",
        "reconciler.planner.retention:_of_leg",
        "if checkpoint.iteration in kept or over or not checkpoint.identity:",
        "if not checkpoint.identity:",
        story="needless folders are pruned",
    ),
    Bug(
        "folders of an attempt with a live job are pruned",
        "reconciler.planner.upkeep:_kept",
        "own, waits or unsettled(evidence))",
        'own, "")',
        story="a job begins after a look that would prune",
    ),
    Bug(
        "what was set aside is never deleted",
        "reconciler.planner.upkeep:_deletions",
        "    if not some:\n",
        "    if True:\n",
        story="needless folders are pruned",
    ),
    Bug(
        "live jobs are not asked for again",
        "agent",
        'why = self.disturbs(action["key"]) if action["upkeep"]["do"] != "delete" else ""',
        'why = ""',
        story="a job begins after a look that would prune",
    ),
    Bug(
        "what was just saved makes others needless",
        "agent",
        "        if saved <= before and not (",
        "        if not (",
        story="a clock is ahead when a checkpoint was just saved",
    ),
)
