"""Answers → the manifests of a campaign, each field with what it is and what else it may be. Pure."""

from __future__ import annotations

from typing import Any, Final

from reconciler.model.commented import InLine, Noted, documents
from reconciler.scaffold.answers import Answers
from reconciler.scaffold.ladder import Before, Ladder, ladder
from reconciler.scaffold.stage import Beginning, Job, after_stage, dataset, object_of, stage


def manifests(answers: Answers, schema: str) -> dict[str, str]:
    """File name → text. `schema` is where the JSON Schema lies, seen from there: editors find it by that line."""
    modeline = f"# yaml-language-server: $schema={schema}\n"
    found = {
        "model.yaml": documents([_model(answers)], modeline + MODEL),
        "cluster.yaml": documents([_cluster(answers)], modeline + CLUSTER),
        "datasets.yaml": documents([_dataset(answers, at) for at in range(len(answers.data))], modeline + DATASETS),
        "campaign.yaml": documents([_campaign(answers)], modeline + CAMPAIGN),
        "stages.yaml": documents(_stages(answers), modeline + STAGES),
    }
    if answers.templates:
        found[f"templates/machine/{answers.cluster_name}.sh"] = MACHINE.format(name=answers.cluster_name)
    return found


MODEL: Final = """\
# What stays fixed over all stages: whatever else changes makes losses incomparable, or a checkpoint unloadable.
# Every kind and field: `reconcile schema model`, or your editor, by the line above.
"""
CLUSTER: Final = "# How to reach the cluster, and what it offers. `reconcile doctor` checks all of it there.\n"
DATASETS: Final = "# Each dataset with its weighted file list on the cluster: `weight prefix corpus` a line.\n"
CAMPAIGN: Final = "# The stages in order, and what holds for all of them.\n"
STAGES: Final = """\
# One stage for each new dataset. Its strategies are a ladder: when one fails a gate, the next is tried, from the same
# checkpoint. `reconcile new stage NAME` adds a stage.
"""
MACHINE: Final = """\
# {name}: what a job runs first on a compute node, in bash, so that `python3` is the one with torch and DeepSpeed.
# For example:
#     module load conda || exit 72
#     conda activate base || exit 72
"""


# --- Model


def _model(answers: Answers) -> dict[str, Any]:
    model = answers.model
    lists = [
        {
            "name": f"val-{symbol}",
            "of": symbol,
            "samples": Noted(256 if answers.cluster.machine == "local" else 1024, "sequences of it that are read"),
            "lists": {answers.cluster_name: InLine(path=path)},
        }
        for symbol, path in zip(answers.symbols, answers.held_out, strict=True)
    ]
    spec = {
        "architecture": {
            "name": Noted(model.architecture, "MODEL_ARCH; 7B takes all sizes below, for a model of your own too"),
            "layers": model.layers,
            "hidden": model.hidden,
            "heads": model.heads,
            "kvHeads": Noted(model.kv_heads, "as many as heads without grouped-query attention"),
            "ffnHidden": model.ffn_hidden,
            "ropeTheta": Noted(model.rope_theta, "another one loads, and starts at the loss of an untrained model"),
            "vocabulary": model.vocabulary,
        },
        "tokenizer": {
            "type": Noted(model.tokenizer[0], "TOKENIZER_TYPE: HFTokenizer, Llama2Tokenizer, ..."),
            "model": Noted(model.tokenizer[1], "a name on Hugging Face, or a path in the launcher's checkout"),
        },
        "sequenceLength": model.sequence_length,
        "batch": {
            "global": Noted(global_batch(answers), "sequences a step over all ranks; × sequenceLength: tokens a step"),
            "micro": Noted(model.micro_batch, "sequences on one rank at a time"),
        },
        "precision": Noted("bf16", "also: fp16, fp32"),
        "parallelism": {
            "tensor": 1,
            "pipeline": 1,
            "zeroStage": Noted(1, "0, 1 or 2; what is left of the ranks is data-parallel"),
        },
        "checkpointEvery": Noted(model.checkpoint_every, "iterations between saves: what a crash may cost"),
        "validation": Noted(
            {"sets": lists}, "held out of each dataset, the same in every stage: what is forgotten shows"
        ),
    }
    return object_of("Model", answers.model_name, spec)


def global_batch(answers: Answers) -> int:
    """Sequences a step: the model's usual number, or the next that the ranks can share out."""
    share = answers.nodes * answers.ranks * answers.model.micro_batch
    return -(-answers.model.global_batch // share) * share


# --- Cluster


def _cluster(answers: Answers) -> dict[str, Any]:
    known = answers.cluster
    local = known.machine == "local"
    scheduler: dict[str, Any] = {"kind": "openpbs", "queue": Noted(answers.queue, "a stage may name another")}
    if answers.account:
        scheduler["account"] = Noted(answers.account, "the project that is charged (qsub -A)")
    scheduler["maxWalltime"] = Noted(known.max_walltime, "the longest that the queue takes: qstat -Qf QUEUE")
    spec: dict[str, Any] = {
        "transport": _transport(answers),
        "scheduler": scheduler,
        "node": {"ranks": Noted(answers.ranks, "one for each GPU or tile of a node")},
    }
    if answers.filesystems:
        spec["filesystems"] = Noted(list(answers.filesystems), "what jobs need mounted (-l filesystems=)")
    spec["workspace"] = Noted(answers.workspace, "everything that is made goes below it")
    launcher: dict[str, Any] = {
        "kind": "megatron-deepspeed",
        "checkout": Noted(answers.checkout, "of Megatron-DeepSpeed, with train_alcf.sh"),
        "machine": Noted(answers.cluster_name if answers.templates else known.machine, "how jobs set up Python"),
    }
    if answers.templates:
        launcher["machine"] = Noted(answers.cluster_name, "machine/NAME.sh in the templates, for you to write")
        launcher["templates"] = Noted(answers.templates, "in this repository; goes before the package's own")
    launcher["startup"] = Noted(known.startup, "to the first iteration; left free at a job's end for its last save")
    spec["launcher"] = launcher
    spec["allocation"] = {"nodeHours": Noted(answers.node_hours, "no plan may spend more than this here")}
    spec["poll"] = Noted(known.poll, "between two looks" if local else "between two looks; be kind to the login node")
    return object_of("Cluster", answers.cluster_name, spec)


def _transport(answers: Answers) -> dict[str, Any]:
    if answers.cluster.machine == "local":
        root = Noted(f".local/{answers.campaign}", "in this repository; `reconcile local` makes it")
        return {"kind": Noted("local", "also: ssh, login-node"), "root": root}
    if not answers.host:
        return {"kind": Noted("login-node", "commands run here; also: ssh, with a host")}
    return {
        "kind": Noted("ssh", "also: login-node, where reconcile itself runs on one"),
        "host": Noted(answers.host, "a Host of your ssh configuration, with user, key and jump hosts"),
    }


# --- Datasets


def _dataset(answers: Answers, at: int) -> dict[str, Any]:
    data = answers.data[at]
    lists = {answers.cluster_name: data.path}
    return dataset(answers.free(data.name), answers.symbols[at], data.tokens, answers.model.tokenizer, lists)


# --- Campaign and stages


def _campaign(answers: Answers) -> dict[str, Any]:
    local = answers.cluster.machine == "local"
    spec: dict[str, Any] = {
        "model": answers.model_name,
        "cluster": answers.cluster_name,
        "stages": [name for name, _ in _courses(answers)],
        "learningRate": {
            "max": Noted(answers.rate, "LR max, the plateau: for a checkpoint the rate that it was trained at"),
            "final": Noted(0, "where the last cooldown ends"),
        },
        "onFailedGate": Noted(
            "advance" if local else "hold",
            "hold: wait for a person; also: advance (try the next strategy), propose (as a pull request)",
        ),
        "gates": {
            "forgetting": Noted(
                {"weak": InLine(warn=0.05, fail=0.10), "strong": InLine(warn=0.15, fail=0.30)},
                "how far a validation loss may rise over a stage, in nats, by the stage's shift",
            ),
            "recovery": {"grace": Noted("10%", "of a stage's tokens, in which the training loss may rise")},
        },
        "bounds": {
            "attemptsPerStage": Noted(3, "strategies that are tried before a person is asked"),
            "jobsPerAttempt": 100,
            "nodeHours": Noted(answers.node_hours, "of the whole campaign"),
        },
    }
    return object_of("Campaign", answers.campaign, spec)


def _courses(answers: Answers) -> list[tuple[str, tuple[str, Before, Ladder]]]:
    """(name, (dataset, what came before, ladder)) of each stage."""
    first = 0 if answers.checkpoint is None else 1
    found = []
    for at in range(first, len(answers.data)):
        sizes = {answers.symbols[each]: answers.data[each].tokens for each in range(at)}
        before = Before(sizes, at >= 2, rewarm=answers.checkpoint is not None and at == first)
        cools = at == len(answers.data) - 1
        course = ladder(answers.symbols[at], answers.data[at].tokens, before, cools=cools)
        found.append((f"stage-{at - first + 1}", (answers.free(answers.data[at].name), before, course)))
    return found


def _stages(answers: Answers) -> list[dict[str, Any]]:
    courses = _courses(answers)
    total = sum(course.tokens for _, (_, _, course) in courses)
    local = answers.cluster.machine == "local"
    job = Job(answers.nodes, "5m" if local else answers.cluster.max_walltime)
    found = []
    for number, (name, (new, before, course)) in enumerate(courses):
        begin = Beginning(answers.campaign, new, _source(answers, courses[number - 1][0] if number else ""), before)
        last = number == len(courses) - 1
        found.append(stage(name, begin, course, job, of_last=total if last else None))
    return found


def _source(answers: Answers, previous: str) -> Any:
    if previous:
        return after_stage(previous, decayed=False)
    if answers.checkpoint is None:
        return Noted("random", "random weights; or a checkpoint made elsewhere: path, format, checkpoint")
    return {
        "path": Noted(answers.checkpoint.path, "the folder that holds `latest` or `latest_universal`"),
        "format": Noted(answers.checkpoint.form, "universal: loads on any ranks; zero: on those it was saved by"),
        "checkpoint": Noted("converged", "after its decay; also: pre-cooldown (at LR max), final, {iteration: 1200}"),
        "rate": Noted(0, "the learning rate at which it was saved"),
        "trainedOn": Noted([answers.free(answers.data[0].name)], "so that it may be replayed"),
    }
