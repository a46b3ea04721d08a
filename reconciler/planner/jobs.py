"""Actions of one attempt: what is written, what is submitted, under which key. Values in, values out."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from fractions import Fraction

from reconciler.domain.budget import save_interval, usable_seconds
from reconciler.domain.checkpoint import needs_conversion
from reconciler.launcher import command
from reconciler.launcher.command import Launch, TrainPaths
from reconciler.model.datalist import render
from reconciler.model.manifests import StageManifest
from reconciler.model.observed import EvaluationSeen
from reconciler.model.plan import Action, ActionKey, ActionKind, FileWrite, JobRequest, Training
from reconciler.model.quantities import counted
from reconciler.model.recipe import Load, Recipe
from reconciler.model.status import Reason
from reconciler.model.verdict import Verdict
from reconciler.planner.desired import Desired
from reconciler.planner.evidence import FINAL_VERDICT
from reconciler.planner.lists import Lists, Trouble

SOURCE_EVALUATION = (0, 0)
"""(leg, iteration) under which the source checkpoint is evaluated when no stage has done so: before the first step."""
NAME_CHARS_MAX = 15
"""Older PBS servers refuse longer job names."""


class Point(Enum):
    """Which checkpoint an evaluation is of."""

    LEG = auto()
    """One of a leg."""
    SOURCE = auto()
    """The one that the attempt starts from."""
    CONVERTED = auto()
    """Its universal copy."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """Makes the actions of one attempt of one stage."""

    desired: Desired
    stage: StageManifest
    recipe: Recipe
    lists: Lists

    @property
    def folder(self) -> str:
        """The attempt's folder, relative to the workspace."""
        return f"{self.desired.campaign}/{self.stage.metadata.name}/{self.recipe.attempt}"

    @property
    def save_every(self) -> int:
        """Iterations between saves, at the attempt's own batch."""
        model = self.desired.model
        return save_interval(model.checkpoint_every, model.batch.global_, self.recipe.global_batch)

    def key(self, kind: ActionKind, leg: int, ended: int, detail: str = "") -> ActionKey:
        """The identity of an effect of this attempt."""
        campaign, stage = self.desired.campaign, self.stage.metadata.name
        return ActionKey(campaign, stage, self.recipe.attempt, leg, ended, kind, detail)

    def data_list(self, leg: int) -> FileWrite | Trouble:
        """The leg's data list in the trainer's format.

        Named by content: the trainer's index cache is keyed on the list's name, not on what is in it (contract 4.1).
        """
        mixed = self.lists.mixed(self.desired, self.recipe.legs[leg])
        if isinstance(mixed, Trouble):
            return mixed
        text = render(mixed.list)
        return FileWrite(f"{self.folder}/lists/leg-{leg}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.txt", text)

    def train(
        self,
        leg: int,
        ended: int,
        data_list: FileWrite,
        *,
        newest: int | None,
        latest_agrees: bool,
        gone: Sequence[EvaluationSeen] = (),
    ) -> Action:
        """The next segment of a leg: from its own newest complete checkpoint, or from the leg's source.

        `gone`: what was found of checkpoints that are trained anew; the new ones are measured themselves.
        """
        key = self.key(ActionKind.TRAIN, leg, ended)
        later = newest is not None
        load, iteration, universal = self._load(leg, newest)
        paths = TrainPaths(
            save=self._absolute(f"leg-{leg}"),
            load=load,
            data_list=self.desired.site.in_workspace(data_list.path),
            kill_switch=self._absolute("stop"),
        )
        launch = command.train(
            self.recipe,
            self.recipe.legs[leg],
            paths,
            later=later,
            load_iteration=iteration,
            universal=universal,
            save_every=self.save_every,
            exit_minutes=self._exit_minutes(),
        )
        text = f"train leg {leg} from iteration {newest or 0} of {self.recipe.legs[leg].iterations}"
        if not latest_agrees:
            text += " (the newest folder is incomplete and is left aside)"
        remove = [f"{self.folder}/stop"]
        if not later and not latest_agrees and self.recipe.legs[leg].load is Load.RANDOM:
            # It loads from where it saves: a pointer to what was cut off in the first save would end every job.
            remove.append(f"{self.folder}/leg-{leg}/latest")
        return Action(
            key=key,
            reason=Reason.TOKENS_REMAIN if later or leg else Reason.TRAINING_STARTS,
            summary=text,
            files=(self._recipe_file(), data_list),
            directories=(f"{self.folder}/leg-{leg}", f"{self.folder}/jobs"),
            job=self._job(key, "train", {"launches": [self._call(launch)]}, nodes=self.stage.spec.resources.nodes),
            remove=tuple(remove),
            aside=tuple(f"{self.folder}/evaluations/leg-{found.leg}-{found.iteration}" for found in gone),
            trains=Training(self.recipe, leg, newest, load, universal, paths.data_list),
        )

    def convert(self, ended: int) -> Action:
        """The source's optimizer shards as a universal checkpoint, which loads at any data-parallel size."""
        key = self.key(ActionKind.CONVERT, 0, ended)
        digest = hashlib.sha256(self.desired.site.converter.encode()).hexdigest()[:12]
        tool = f"{self.desired.campaign}/tools/universal-{digest}.py"
        folder, iteration = self._source_folder()
        values: dict[str, object] = {
            "tool": self.desired.site.in_workspace(tool),
            "source": f"{folder}/global_step{iteration}",
            "target": self._absolute("leg-0-source"),
            "data_parallel": self.recipe.data_parallel,
        }
        size, wanted = self.recipe.source.data_parallel, self.recipe.data_parallel
        return Action(
            key=key,
            reason=Reason.CONVERSION_NEEDED,
            summary=f"convert the source checkpoint: {size} data-parallel shards → universal, for {wanted}",
            files=(self._recipe_file(), FileWrite(tool, self.desired.site.converter)),
            directories=(f"{self.folder}/leg-0-source", f"{self.folder}/jobs"),
            job=self._job(key, "convert", values, nodes=1),
        )

    def evaluate(
        self, leg: int, iteration: int, ended: int, *, done: Collection[str] = (), point: Point = Point.LEG
    ) -> Action:
        """The validation sets that are not `done`, at a checkpoint."""
        detail = f"leg-{leg}-{iteration}"
        key = self.key(ActionKind.EVALUATE, leg, ended, detail)
        out = f"{self.folder}/evaluations/{detail}"
        load, at = self._evaluated(point, leg, iteration)
        paths = self.desired.validation_paths()
        calls = []
        for chosen in self.desired.model.validation.sets:
            if chosen.name in done:
                continue
            launch = command.evaluate(
                self.recipe,
                load=load,
                iteration=at,
                data_list=paths[chosen.name],
                samples=chosen.samples,
                scratch=self.desired.site.in_workspace(f"{out}/scratch"),
                data_parallel=self.desired.cluster.node.ranks,
            )
            log = self.desired.site.in_workspace(f"{out}/{self.lists.validation.get(chosen.name, chosen.name)}.log")
            calls.append(self._call(launch) | {"log": log})
        what = {Point.SOURCE: "the source checkpoint", Point.CONVERTED: "the converted source checkpoint"}.get(
            point, f"iteration {iteration}"
        )
        return Action(
            key=key,
            reason=Reason.BASELINE_NEEDED if point is Point.SOURCE else Reason.EVALUATION_NEEDED,
            summary=f"evaluate {what} on {counted(len(calls), 'validation set')}",
            files=(self._recipe_file(),),
            directories=(f"{out}/scratch", f"{self.folder}/jobs"),
            job=self._job(key, "evaluate", {"launches": calls}, nodes=1),
        )

    def judge(self, verdict: Verdict) -> Action:
        """The verdict with every number it used, beside the checkpoints it judged."""
        return Action(
            key=self.key(ActionKind.JUDGE, len(self.recipe.legs) - 1, 0, FINAL_VERDICT),
            reason=Reason.VERDICT_DUE,
            summary=f"record the verdict: {'passed' if verdict.passed else 'failed'}; {verdict.message}",
            files=(self._recipe_file(), FileWrite(f"{self.folder}/verdicts/{FINAL_VERDICT}.json", verdict.to_file())),
        )

    def stop(self, leg: int, ended: int, reason: Reason, why: str) -> Action:
        """Ask the running job to save and exit."""
        return Action(
            key=self.key(ActionKind.STOP, leg, ended),
            reason=reason,
            summary=f"stop the job: {why}",
            files=(FileWrite(f"{self.folder}/stop", why + "\n"),),
        )

    def restore(self) -> Action:
        """The recipe, where somebody has taken it away. What lies there with other content stays, and is told."""
        return Action(
            key=self.key(ActionKind.RESTORE, 0, 0),
            reason=Reason.RECIPE_MISSING,
            summary="write recipe.json again: without it nothing tells which checkpoints are complete",
            files=(FileWrite(f"{self.folder}/recipe.json", self.recipe.to_file()),),
        )

    def _absolute(self, path: str) -> str:
        return self.desired.site.in_workspace(f"{self.folder}/{path}")

    def _recipe_file(self) -> FileWrite:
        return FileWrite(f"{self.folder}/recipe.json", self.recipe.to_file(), if_absent=True)

    def _source_folder(self) -> tuple[str, int]:
        """The folder that holds `latest`, and the iteration in it that the stage starts from."""
        source = self.recipe.source
        if source.external:
            return self.desired.site.path(source.external), source.iteration
        if not source.attempt:
            return "", 0
        where = f"{self.desired.campaign}/{source.stage}/{source.attempt}/leg-{source.leg}"
        return self.desired.site.in_workspace(where), source.iteration

    def _evaluated(self, point: Point, leg: int, iteration: int) -> tuple[str, int | None]:
        """(folder, iteration to name) of a checkpoint that is evaluated."""
        match point:
            case Point.LEG:
                return self._absolute(f"leg-{leg}"), iteration
            case Point.SOURCE:
                return self._source_point()
            case Point.CONVERTED:
                return self._absolute("leg-0-source"), None

    def _source_point(self) -> tuple[str, int | None]:
        """The source's folder and the iteration to name in it; None where a universal folder has its own pointer."""
        folder, iteration = self._source_folder()
        return folder, None if self.recipe.source.universal or not folder else iteration

    def _load(self, leg: int, newest: int | None) -> tuple[str, int | None, bool]:
        """(folder, iteration to name, universal) for the next job of a leg."""
        if newest is not None:
            return self._absolute(f"leg-{leg}"), newest, False
        if leg > 0:
            made = f"{self.desired.campaign}/{self.stage.metadata.name}/{self.recipe.maker(leg - 1)}/leg-{leg - 1}"
            return self.desired.site.in_workspace(made), self.recipe.legs[leg - 1].iterations, False
        if needs_conversion(self.recipe):
            return self._absolute("leg-0-source"), None, True
        folder, iteration = self._source_point()
        return folder, iteration, bool(folder) and iteration is None

    def _exit_minutes(self) -> str:
        """`--exit-duration-in-mins`: whole minutes, which is all the launcher reads, except on this machine."""
        resources, launcher = self.stage.spec.resources, self.desired.cluster.launcher
        minutes = usable_seconds(resources.walltime, launcher.startup) / 60
        if launcher.machine == "local":
            return f"{float(max(minutes, Fraction(1, 20))):.3f}"
        return str(max(1, math.floor(minutes)))

    def _call(self, launch: Launch) -> dict[str, object]:
        extra = dict(self.desired.cluster.launcher.environment)
        return {"environment": extra | dict(launch.environment), "arguments": list(launch.arguments)}

    def _job(self, key: ActionKey, template: str, values: dict[str, object], *, nodes: int) -> JobRequest:
        cluster, resources, name = self.desired.cluster, self.stage.spec.resources, self.stage.metadata.name
        stem = f"l{key.leg}-n{key.ended}-{key.kind}" + (f"-{key.detail}" if key.detail else "")
        tail = f".{key.kind[:5]}.{key.ended}"
        return JobRequest(
            name=f"{name[: NAME_CHARS_MAX - len(tail)]}{tail}",
            template=template,
            nodes=nodes,
            walltime_s=math.floor(resources.walltime),
            queue=resources.queue or cluster.scheduler.queue,
            account=cluster.scheduler.account,
            filesystems=cluster.filesystems,
            script=f"{self.folder}/jobs/{stem}.pbs",
            log=f"{self.folder}/jobs/{stem}.log",
            values=values
            | {
                "machine": cluster.launcher.machine,
                "checkout": self.desired.site.checkout,
                "attempt_folder": self.desired.site.in_workspace(self.folder),
                "key": str(key),
                "ranks_per_node": cluster.node.ranks,
                "templates": self.desired.site.templates.digest,
            },
            header={
                "campaign": self.desired.campaign,
                "stage": name,
                "strategy": self.recipe.strategy,
                "attempt": self.recipe.attempt,
                "what": f"{key.kind} of leg {key.leg}, job {key.ended + 1}",
                "commit": self.desired.revision + (" (with uncommitted changes)" if self.desired.dirty else ""),
                "templates": self.desired.site.templates.told,
            },
        )
