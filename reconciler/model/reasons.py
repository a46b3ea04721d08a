"""What each reason of a status means, and what would change it; the message beside it has the names and numbers."""

from __future__ import annotations

from typing import Final

from reconciler.model.status import Reason

_RETRY: Final = "When its cause is mended: `reconcile apply CAMPAIGN --retry STAGE`."

MEANINGS: Final[dict[Reason, str]] = {
    # the stage goes on
    Reason.TRAINING_STARTS: "Everything is there, and the first job of the stage or of its next leg is submitted.",
    Reason.TOKENS_REMAIN: "The budget is not trained yet; the next job goes on from the newest complete checkpoint.",
    Reason.RECIPE_MISSING: "The recipe.json of an attempt, which tells what is whole, is gone; it is written again.",
    Reason.LATEST_ASTRAY: "`latest` of a leg does not name its newest complete checkpoint, as after a cut save; "
    "it is written again.",
    Reason.NOT_NEEDED: "Nothing needs these folders any more, and `retention.prune` lets them go: they are set aside.",
    Reason.SET_ASIDE: "These folders were set aside at an earlier pass and are deleted now.",
    Reason.CONVERSION_NEEDED: "The source was saved by another number of ranks; a universal copy is made first.",
    Reason.EVALUATION_NEEDED: "The budget is trained; the validation sets have no loss at its last checkpoint yet.",
    Reason.BASELINE_NEEDED: "Forgetting is a rise over the source, and the source has no loss on these sets yet.",
    Reason.VERDICT_DUE: "All numbers are there; the gates are judged and the verdict is written.",
    Reason.GATE_FAILED: "A gate failed. What follows is the campaign's `onFailedGate`; the verdict has the numbers.",
    Reason.DIVERGED: "The loss is missing or near that of guessing, so the job is asked to stop and the attempt fails.",
    Reason.BUDGET_REACHED: "Complete checkpoints hold all iterations of the attempt.",
    Reason.ALL_SETS_READ: "Every validation set has a loss at the attempt's last checkpoint.",
    Reason.ALL_EVIDENCE: "The iterations, a complete checkpoint and passed gates are all there: the stage is done.",
    Reason.SHALLOW_CLONE: "Whether what was applied is in the history cannot be told: this clone is too shallow.",
    Reason.ADOPTED: "The stage was trained before there were manifests; its checkpoint is there, whole, as they say.",
    # waits
    Reason.SOURCE_NOT_DONE: "An earlier stage is not done; this one starts by itself when it is.",
    Reason.JOB_LIVE: "A job is queued or running.",
    Reason.JOB_HELD_BY_PBS: "PBS holds the job (state H): a user, an operator or a dependency. `qrls` releases it.",
    Reason.JOB_CANNOT_RUN: "PBS says that the job cannot run as things stand; its comment says why.",
    Reason.JOB_ENDING: "The job is ending; what it left is read when it has ended.",
    Reason.JOB_NOT_LISTED: "PBS took the job and does not list it yet, so nothing else is submitted meanwhile.",
    Reason.JOB_TABLE_UNREAD: "The job table could not be read. Unread never means empty, so nothing is done.",
    Reason.WORKSPACE_UNREAD: "The attempts' folders could not be read, so nothing is concluded from them.",
    Reason.LIST_UNREAD: "A data list could not be read at this look.",
    Reason.SOURCE_UNREAD: "The folder of a checkpoint made elsewhere could not be read at this look.",
    Reason.STOPPING: "The job was asked to save and exit, and has not ended yet.",
    Reason.SUBMIT_WINDOW_CLOSED: "The cluster's `submitWindows` are closed; the message says when one opens.",
    Reason.EXTERNAL_AWAITED: "An `external` gate waits for the file of its evaluation harness.",
    # holds
    Reason.SUSPENDED: "The stage's manifest says `suspend: true`. Remove that to go on.",
    Reason.LADDER_EXHAUSTED: "Every strategy that may be tried has failed. Add one to the ladder, or raise the bound.",
    Reason.GATE_HOLDS: "A gate failed and the campaign says that a person decides: move the next rung up in a commit.",
    Reason.JOBS_EXHAUSTED: "The attempt has had as many jobs as `bounds.jobsPerAttempt` allows.",
    Reason.NO_PROGRESS: f"Jobs end without a new checkpoint. Look at their logs first. {_RETRY}",
    Reason.SUBMIT_REFUSED: f"`qsub` refused the job; its words are in the message. {_RETRY}",
    Reason.NODE_HOURS_EXHAUSTED: "The node-hours of `bounds` or of the allocation are spent.",
    Reason.TOKENS_EXHAUSTED: "What is left to train would exceed `bounds.tokens`.",
    Reason.TRIAL_AWAITS_CHOICE: "All pilots are judged; write the variant that goes on into `trial.chosen`.",
    Reason.TRAINED_IMMUTABLE: "The manifests no longer say what was trained. Trained work is not discarded by an edit; "
    "the refusal lists the ways on.",
    Reason.LIST_MISSING: "The cluster has no data list at the path of the manifest.",
    Reason.LIST_CHANGED: "A data list is not the one whose `sha256` the manifest pins.",
    Reason.LIST_BAD: "A data list cannot be used; the message has file and line.",
    Reason.SOURCE_UNUSABLE: "No checkpoint of the source stage has the wanted property, or no recipe can be made.",
    Reason.ADOPTED_UNUSABLE: "The checkpoint of an adopted stage is not there, not whole, or not as its manifest says. "
    "It is not made again: nobody here knows how.",
    Reason.VERDICT_UNREADABLE: "A verdict file is damaged. Move it away, and it is judged again.",
    Reason.STARTED_FROM_RANDOM: "The launcher found no checkpoint and began at random weights; nothing of it counts.",
    Reason.LOAD_DISCONTINUOUS: "The first losses after a load do not go on from the ones before: a bad load.",
    Reason.EXTERNAL_UNREADABLE: "The file of an `external` gate holds no such number.",
    Reason.JOB_DELETED: f"A person or the scheduler deleted the job before its time. {_RETRY}",
    Reason.JOB_CANNOT_START: f"The job will never start as it was asked for. {_RETRY}",
    Reason.LOST_IN_ROUTING: f"PBS took the job and knows it no more: it was lost between its queues. {_RETRY}",
}

_BY_ITSELF: Final = "Nothing: it passes by itself, at the next look of `reconcile apply {campaign} --until-done`."
_APPLY: Final = "`reconcile apply {campaign}` does this next."
_AGAIN: Final = "`reconcile apply {campaign} --retry {stage}`, when the cause is mended."

WAYS_ON: Final[dict[Reason, str]] = {
    Reason.TRAINING_STARTS: _APPLY,
    Reason.TOKENS_REMAIN: _APPLY,
    Reason.RECIPE_MISSING: _APPLY,
    Reason.LATEST_ASTRAY: _APPLY,
    Reason.NOT_NEEDED: _APPLY + " Taking `retention.prune` out of the campaign keeps them.",
    Reason.SET_ASIDE: _APPLY + " Renaming a folder back keeps it.",
    Reason.CONVERSION_NEEDED: _APPLY,
    Reason.EVALUATION_NEEDED: _APPLY,
    Reason.BASELINE_NEEDED: _APPLY,
    Reason.VERDICT_DUE: _APPLY,
    Reason.GATE_FAILED: _APPLY,
    Reason.DIVERGED: _APPLY + " The rung fails; the next one starts from the stage's source.",
    Reason.BUDGET_REACHED: "Nothing: its last checkpoint is evaluated next.",
    Reason.ALL_SETS_READ: "Nothing: the gates are judged next.",
    Reason.ALL_EVIDENCE: "Nothing: what is done is not judged again. Later stages build on it.",
    Reason.SHALLOW_CLONE: "`git fetch --unshallow` lets it be told; nothing waits for it.",
    Reason.ADOPTED: "Nothing: later stages build on it.",
    Reason.SOURCE_NOT_DONE: "The stage before it: `reconcile why {blocker}` tells what that one waits for.",
    Reason.JOB_LIVE: _BY_ITSELF,
    Reason.JOB_HELD_BY_PBS: "`qrls` by whoever holds the job; PBS says who.",
    Reason.JOB_CANNOT_RUN: "Resources that a queue has: in the stage's manifest, after a `qdel` of the job.",
    Reason.JOB_ENDING: _BY_ITSELF,
    Reason.JOB_NOT_LISTED: _BY_ITSELF,
    Reason.JOB_TABLE_UNREAD: _BY_ITSELF + " If it does not: `reconcile doctor`.",
    Reason.WORKSPACE_UNREAD: _BY_ITSELF + " If it does not: `reconcile doctor`.",
    Reason.LIST_UNREAD: _BY_ITSELF + " If it does not: `reconcile doctor`.",
    Reason.SOURCE_UNREAD: _BY_ITSELF + " If it does not: `reconcile checkpoints PATH`.",
    Reason.STOPPING: _BY_ITSELF,
    Reason.SUBMIT_WINDOW_CLOSED: _BY_ITSELF + " The hours are in the cluster's submitWindows.",
    Reason.EXTERNAL_AWAITED: "The file that it waits for, written whole by the harness; or gates.external without it.",
    Reason.SUSPENDED: "A commit that takes `suspend` out of the stage's manifest.",
    Reason.LADDER_EXHAUSTED: "A strategy added to the end of the ladder, or a higher bounds.attemptsPerStage.",
    Reason.GATE_HOLDS: "A commit that moves the next strategy to the top of the ladder, or onFailedGate: advance.",
    Reason.JOBS_EXHAUSTED: "A higher bounds.jobsPerAttempt; or " + _AGAIN,
    Reason.NO_PROGRESS: _AGAIN,
    Reason.SUBMIT_REFUSED: "Resources that PBS takes, in the manifest; then " + _AGAIN,
    Reason.NODE_HOURS_EXHAUSTED: "A higher bounds.nodeHours in the campaign, or a greater allocation in the cluster.",
    Reason.TOKENS_EXHAUSTED: "A higher bounds.tokens in the campaign.",
    Reason.TRIAL_AWAITS_CHOICE: "A commit that names the variant in trial.chosen.",
    Reason.TRAINED_IMMUTABLE: "One of the ways that `reconcile plan` lists: what is trained stays as it is.",
    Reason.LIST_MISSING: "The data list at that path on the cluster, or another path in the dataset's manifest.",
    Reason.LIST_CHANGED: "The list as it was, or its new SHA-256 in the dataset's manifest.",
    Reason.LIST_BAD: "A list that can be read, at that path on the cluster.",
    Reason.SOURCE_UNUSABLE: "The checkpoint put back, or another source in the manifest. Or " + _AGAIN,
    Reason.ADOPTED_UNUSABLE: "The checkpoint put back, or what the stage's `adopted` and the Model say of it.",
    Reason.VERDICT_UNREADABLE: "The file moved away: the attempt is judged again.",
    Reason.STARTED_FROM_RANDOM: "The leg's folder moved away; then " + _AGAIN,
    Reason.LOAD_DISCONTINUOUS: "The bad checkpoints moved away, or a wider gates.continuity; then " + _AGAIN,
    Reason.EXTERNAL_UNREADABLE: "A file that holds the number, or another metric in gates.external.",
    Reason.JOB_DELETED: _AGAIN,
    Reason.JOB_CANNOT_START: _AGAIN,
    Reason.LOST_IN_ROUTING: _AGAIN,
}
"""What would change it, for `reconcile why`; {campaign}, {stage} and {blocker} stand for names."""

GOES_ON: Final = frozenset(
    {
        Reason.TRAINING_STARTS,
        Reason.TOKENS_REMAIN,
        Reason.RECIPE_MISSING,
        Reason.LATEST_ASTRAY,
        Reason.NOT_NEEDED,
        Reason.SET_ASIDE,
        Reason.CONVERSION_NEEDED,
        Reason.EVALUATION_NEEDED,
        Reason.BASELINE_NEEDED,
        Reason.VERDICT_DUE,
        Reason.GATE_FAILED,
        Reason.DIVERGED,
        Reason.BUDGET_REACHED,
        Reason.ALL_SETS_READ,
        Reason.ALL_EVIDENCE,
        Reason.ADOPTED,
        Reason.SHALLOW_CLONE,
    }
)
"""Neither a wait nor a hold: something is done next, or nothing is left to do."""
