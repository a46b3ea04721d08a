"""What a checkpoint says of itself: counters, schedule, arguments and sizes, as far as it has them."""

import os

MYPY = False
if MYPY:
    from typing import Any, Dict, Optional, Tuple

    Json = Dict[str, Any]

if __name__ != "__main__":  # sent to a cluster, all are one program
    from reconciler.cluster.agent_checkpoints import MODEL_FILE, file_sizes
    from reconciler.cluster.agent_pickle import Named, Odd, is_name, unpickled

PARAMETERS_MAX = 100000
DIMENSIONS_MAX = 8
INTEGER_MAX = 2**53
COUNTS = {
    "layers": "num_layers",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "ffn_hidden": "ffn_hidden_size",
    "sequence_length": "seq_length",
    "micro_batch": "micro_batch_size",
    "global_batch": "global_batch_size",
    "padded_vocabulary": "padded_vocab_size",
    "tensor": "tensor_model_parallel_size",
    "pipeline": "pipeline_model_parallel_size",
    "samples": "consumed_train_samples",
    "rope_theta": "rotary_position_embeddings_theta",
}
"""A fact → the launcher's argument that says it, in whole numbers."""
SCHEDULE = {
    "position": "num_steps",
    "rate_max": "max_lr",
    "rate_min": "min_lr",
    "warmup": "lr_warmup_steps",
    "decay": "lr_decay_steps",
}
"""A fact → what the launcher's scheduler saves; lengths in samples."""


def model_facts(path: str) -> "Json":
    """What `mp_rank_00_model_states.pt` says: counters, schedule, arguments, sizes. What it does not say is None."""
    found = unpickled(path)
    arguments = found.get("args")
    arguments = mapping(arguments.state if isinstance(arguments, Named) else None)
    scheduler, universal = mapping(found.get("lr_scheduler")), mapping(found.get("universal_checkpoint_info"))
    facts = {name: count(arguments.get(argument)) for name, argument in COUNTS.items()}  # type: Json
    facts.update({name: number(scheduler.get(key)) for name, key in SCHEDULE.items()})
    tensors, parameters = sizes_of(found.get("param_shapes"))
    facts.update(
        style=word(scheduler.get("lr_decay_style")),
        optimizer=word(arguments.get("optimizer")),
        tokenizer=word(arguments.get("tokenizer_type")),
        iteration=count(found.get("iteration")),
        global_steps=count(found.get("global_steps")),
        tokens=count(found.get("tokens")),
        data_parallel=count(found.get("dp_world_size")),
        model_parallel=count(found.get("mp_world_size")),
        deepspeed=word(found.get("ds_version")),
        vocabulary=count(universal.get("original_vocab_size")),
        precision="bf16" if arguments.get("bf16") is True else "fp16" if arguments.get("fp16") is True else None,
        tensors=tensors,
        parameters=parameters,
    )
    return facts


def shard_facts(path: str) -> "Json":
    """What an optimizer shard says: the rate of its next step, what it keeps, and which class of DeepSpeed cut it."""
    optimizer = mapping(unpickled(path).get("optimizer_state_dict"))
    base = mapping(optimizer.get("base_optimizer_state"))
    first = mapping(next(iter(mapping(base.get("state")).values()), None))
    return {
        "rate": rate_of(base),
        "moments": sorted(name for name in first if word(name))[:16],
        "wrapper": "DeepSpeedZeroOptimizer" if "zero_stage" in optimizer else "BF16_Optimizer",
    }


def universal_facts(path: str) -> "Json":
    """The same of a universal checkpoint's `zero/optimizer_state.pt`, which no class has cut."""
    found = unpickled(path)
    return {
        "rate": rate_of(found) or rate_of(mapping(found.get("base_optimizer_state"))),
        "moments": [],
        "wrapper": None,
    }


def rate_of(optimizer: "Dict[str, Any]") -> "Optional[float]":
    """The learning rate of the first of an optimizer's groups, which the scheduler has set for the next step."""
    groups = optimizer.get("param_groups")
    return number(mapping(groups[0] if isinstance(groups, list) and groups else None).get("lr"))


def mapping(value: "Any") -> "Dict[str, Any]":
    return value if isinstance(value, dict) else {}


def count(value: "Any") -> "Optional[int]":
    """A whole number that is not negative, as a checkpoint has them; None for anything else."""
    found = number(value)
    return int(found) if found is not None and found.is_integer() else None


def number(value: "Any") -> "Optional[float]":
    """A number that is neither negative nor infinite; None for anything else."""
    return float(value) if type(value) in (int, float) and 0 <= value <= INTEGER_MAX else None


def word(value: "Any") -> "Optional[str]":
    """A short text in one line; None for anything else."""
    return value if is_name(value) and value.isprintable() else None


def sizes_of(groups: "Any") -> "Tuple[Optional[int], Optional[int]]":
    """How many parameters there are and their elements, by the shapes that DeepSpeed keeps of each optimizer group."""
    tensors = total = 0
    for group in groups if isinstance(groups, list) else ():
        for shape in mapping(group).values():
            size = elements(shape)
            tensors, total = tensors + 1, total + (size or 0)
            if size is None or tensors > PARAMETERS_MAX:
                return None, None
    return tensors or None, count(total) or None


def elements(shape: "Any") -> "Optional[int]":
    """How many numbers a `torch.Size` is of."""
    arguments = shape.arguments if isinstance(shape, Named) else None
    sides = arguments[0] if isinstance(arguments, tuple) and arguments else None
    size = 1
    for side in sides if isinstance(sides, tuple) and len(sides) <= DIMENSIONS_MAX else ("?",):
        length = count(side)
        if length is None:
            return None
        size *= length
    return size


def look_inside(entry: "Json", path: str) -> None:
    """What a checkpoint says of itself into its entry; where it cannot be read or says that it is another, why."""
    try:
        entry["inside"] = facts_of(path, entry["universal"])
        entry["why"] = contradicted(entry)
    except Odd as odd:
        entry["why"] = str(odd)


def facts_of(path: str, universal: bool) -> "Json":
    """What a checkpoint's first model file says, and beside it what only the optimizer's files do."""
    names = sorted(file_sizes(path))
    facts = model_facts(os.path.join(path, next(filter(MODEL_FILE.fullmatch, names), "mp_rank_00_model_states.pt")))
    if universal:
        facts.update(universal_facts(os.path.join(path, "zero", "optimizer_state.pt")))
    else:
        shard = next((name for name in names if "zero_pp_rank_0_" in name), "zero_pp_rank_0_mp_rank_00_optim_states.pt")
        facts.update(shard_facts(os.path.join(path, shard)))
    return facts


def contradicted(entry: "Json") -> str:
    """Where a checkpoint's folder and what is inside differ; "" if nowhere."""
    inside = entry["inside"]
    if inside["iteration"] not in (None, entry["iteration"]):
        return "inside it is iteration {}".format(inside["iteration"])
    ranks, parts = inside["data_parallel"], entry["model_parallel"]
    if not entry["universal"] and ranks not in (None, entry["data_parallel"]):
        return "{} optimizer shards, {} are needed".format(entry["data_parallel"] * parts, ranks * parts)
    return ""
