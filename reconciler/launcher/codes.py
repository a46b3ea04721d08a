"""What the oracle can say, one line for each code; `docs/lint-script.md` shows this table."""

from __future__ import annotations

from typing import Final

ERRORS: Final[dict[str, str]] = {
    "ORA010": "a length or rate of the schedule is impossible, and the scheduler asserts",
    "ORA011": "a value is no number, or no value that the setting takes",
    "ORA012": "`--override-opt_param-scheduler` without OVERRIDE_CKPT_OPT_PARAM: both ways at once",
    "ORA013": "lengths in samples or warm-up iterations beside the fraction that the launcher always gives",
    "ORA014": "the target is not even one iteration",
    "ORA015": "global batch, micro batch, accumulation and data-parallel size do not fit together",
    "ORA016": "the checkpoint's data-parallel size is another one, and it is not universal",
    "ORA017": "OVERRIDE_CKPT_OPT_PARAM without its flag, and the schedule differs from the checkpoint's",
    "ORA018": "a flag or word that the trainer's parser does not know; it takes no abbreviations",
    "ORA019": "the schedule runs into an error on the way: infinite styles, lengths in tokens",
    "ORA020": "no checkpoint is found at LOAD, and training goes on from random weights",
    "ORA021": "flags of a first job with LOAD equal to SAVE: every job starts the stage over",
    "ORA022": "the target is reached already: nothing is trained",
    "ORA028": "lines end as on Windows, and bash takes the carriage return into the last word of each",
}
"""The launcher would stop, start from random weights, start over, or train nothing."""
WARNINGS: Final[dict[str, str]] = {
    "ORA001": "a value cannot be known from the text",
    "ORA002": "more than one call, or a wrapper that sets variables of its own: only the first call is judged",
    "ORA003": "a variable is set and not exported, or not passed by qsub, so the launcher never sees it",
    "ORA004": "a variable that nothing reads, such as LR_WARMUP_FRACTION",
    "ORA005": "a flag that the launcher gives again after it, so that it has no effect",
    "ORA006": "a file or text is read in after settings were made, and may make them anew",
    "ORA007": "a flag or variable that does nothing here",
    "ORA008": "a value that a second shell would read again",
    "ORA009": "a checkpoint is loaded and was not described with --state",
    "ORA023": "LOAD is not set",
    "ORA024": "SAVE is not set",
    "ORA025": "the data loader starts in the middle of an order that was drawn for another length",
    "ORA026": "--load-tag names another checkpoint than the one described",
    "ORA027": "LOAD is SAVE and no checkpoint was described: random weights, or a job that goes on",
    "ORA029": "train_alcf.sh is submitted itself, and does not change to the folder of the submission",
    "ORA030": "OVERRIDE_CKPT_OPT_PARAM=0, or NO_FLASH_ATTN=0 and the like, is on: any text counts",
    "ORA031": "a setting is ignored, since the checkpoint's schedule wins",
    "ORA032": "a cooldown with a style other than constant does nothing",
    "ORA033": "--min-lr is ignored in a cooldown, which goes to the checkpoint's minimum",
    "ORA034": "--universal-checkpoint with an optimizer whose checkpoints the launcher's converter refuses",
    "ORA040": "the cooldown fraction is inverted: it is the cooldown's share, not the constant part's",
    "ORA041": "the rate jumps at the load; a cosine is computed over the whole schedule",
    "ORA042": "--finetune rewarms from 0",
    "ORA043": "the warm-up is not over at the load: the rate ramps again",
    "ORA044": "the warm-up is longer than the run",
    "ORA045": "the decay ends before the target",
    "ORA046": "the schedule is over before training starts: --reset-iteration does not reset it",
    "ORA047": "an infinite style, which is not warm-up, hold and cooldown",
    "ORA049": "OVERRIDE_CKPT_OPT_PARAM without its flag, and no checkpoint was described",
    "ORA050": "TRAIN_TOKENS wins over TRAIN_ITERS",
    "ORA051": "GLOBAL_BATCH follows the number of nodes",
    "ORA052": "the global batch changes at the load, and lengths with it",
    "ORA053": "the number of nodes is not known",
    "ORA054": "WORLD_SIZE is exported and wins over the job's size",
    "ORA055": "MODEL_ARCH is not known and means 7B",
    "ORA056": "the target is a multiple of SAVE_INTERVAL: the last checkpoint is written twice",
    "ORA057": "DTYPE is not set on Polaris, where that means fp16",
    "ORA058": "a legacy agpt-7B checkpoint under today's defaults of rope and tokenizer",
    "ORA059": "DATA_FILE_LIST is not set",
    "ORA061": "no budget is set: the default is 4.67T tokens",
    "ORA062": "the exit is not before the walltime: the job is killed between two saves",
}
"""It runs, and most likely does something else than was meant."""
MEANINGS: Final = ERRORS | WARNINGS
