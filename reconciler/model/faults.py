"""Why a command stopped, or could not do a part of what it was asked: a closed set, each with its page.

A stage's waits and holds are `reconciler.model.status.Reason`; what is wrong in manifests, scripts and mixtures has
numbered codes of its own. `reconciler.cli.messages` has all of them as one catalogue.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Fault(StrEnum):
    """A code, what it says, what that means, and what to do. Nothing is told to a person in other words than one of
    these has, followed by the names and numbers of the case."""

    says: str
    meaning: str
    todo: str
    see: str
    """Page of the documentation, perhaps with an anchor."""

    def __new__(cls, code: str, says: str, meaning: str, todo: str, see: str) -> Fault:
        """Text in the same place as the code, so that neither is written without the other."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.says, member.meaning, member.todo, member.see = says, meaning, todo, see
        return member

    # --- the command line
    WRONG_USAGE = (
        "WrongUsage",
        "The command was not called as it can be",
        "An option or argument is unknown, missing, or contradicts another one. Nothing was read and nothing was done.",
        "`reconcile COMMAND --help` shows every argument and option, with their defaults.",
        "commands.md",
    )
    NO_SUCH_NAME = (
        "NoSuchName",
        "Nothing here has that name",
        "A campaign, stage, strategy, leg, attempt, cluster or file of a list was named, and there is none of that "
        "name. The message lists those that there are, or the one that was most likely meant.",
        "Use one of the names that the message lists. A campaign that should be there is in another folder: "
        "`--manifests PATH`.",
        "commands.md",
    )
    NAME_NEEDED = (
        "NameNeeded",
        "More than one thing could be meant",
        "Where there is only one campaign, cluster or attempt, it need not be named. Here are several, and to guess "
        "would be to act on the wrong one.",
        "Name one of those that the message lists.",
        "commands.md",
    )
    NO_TERMINAL = (
        "NoTerminal",
        "There is nobody to ask",
        "`apply` asks before it does anything, and standard input is no terminal, as in CI or under cron.",
        "`--yes` says that it need not ask; apply a plan that was reviewed: `reconcile apply FILE --yes`.",
        "ci.md",
    )
    NOT_WRITTEN = (
        "NotWritten",
        "A file could not be written",
        "A file is there already and is not written over, or the file system refused. What had been written of it was "
        "taken away again.",
        "Name another file or folder, or mend what the file system complains of: space, quota or permission.",
        "commands.md",
    )
    NOT_READABLE = (
        "NotReadable",
        "A file that was named cannot be read",
        "It is not there, may not be opened, is far larger than what is expected, or holds something else.",
        "Look at the file with the words of the message; `reconcile COMMAND --help` says what is expected of it.",
        "commands.md",
    )
    SYSTEM_REFUSED = (
        "SystemRefused",
        "The operating system refused",
        "A file, folder or program on this machine could not be used; the message has the system's own words. What "
        "runs on the cluster goes on.",
        "Mend what it names (space, permission, a missing program), and run the command again: it takes up what there "
        "is.",
        "architecture.md",
    )
    # --- manifests and git
    MANIFESTS_FAULTY = (
        "ManifestsFaulty",
        "The manifests have problems",
        "Nothing is planned or done from manifests that could be read in two ways. Each problem was shown with its "
        "place and a code of its own.",
        "Mend what was shown; `reconcile validate` shows all of it again, and asks no cluster.",
        "rules.md",
    )
    NO_REPOSITORY = (
        "NoRepository",
        "The manifests are not in a git repository",
        "What is applied is known by its commit, and what happened is kept on a branch. Without a repository nobody "
        "could say later what ran.",
        "`git init && git add manifests && git commit`.",
        "record.md",
    )
    NOT_COMMITTED = (
        "NotCommitted",
        "What would be applied is in no commit",
        "Manifests or templates differ from those of the commit, so nothing could say later what was trained.",
        "Commit them. For a try, `--allow-dirty` applies them all the same, and the record says so.",
        "record.md",
    )
    NO_SUCH_REVISION = (
        "NoSuchRevision",
        "The revision cannot be read in this clone",
        "It is no commit, tag or branch here, it is cut off by a shallow clone, or what lies there cannot be read by "
        "this version.",
        "`git fetch`, and `git fetch --unshallow` in a shallow clone, as CI makes them; then name a commit that "
        "`git log` shows.",
        "record.md",
    )
    NOT_ON_RECORD = (
        "NotOnRecord",
        "Nothing of it is on record in this clone",
        "What happened is kept on the branch `reconcile/record`, which each `apply` writes and pushes. This clone has "
        "none, or none of that name.",
        "`git fetch REMOTE reconcile/record:reconcile/record`. Before the first `apply` there is nothing to read.",
        "record.md",
    )
    RECORD_DIFFERS = (
        "RecordDiffers",
        "The record says otherwise than the cluster",
        "A file on record is not what the evidence on the cluster says now, or its evidence is gone. The cluster wins: "
        "nothing is decided by the record.",
        "Find out who changed it: `git log reconcile/record`. A folder that was deleted on purpose needs nothing.",
        "record.md",
    )
    RECORD_NOT_KEPT = (
        "RecordNotKept",
        "What happened could not be put on record or shared",
        "Git refused to write the branch or the remote did not take it. The campaign goes on: the evidence lies on the "
        "cluster, and the next pass puts it on record.",
        "Mend what git complains of (a full disk, a remote that is down, a protected branch); the next `apply` pushes.",
        "record.md",
    )
    NOT_PROPOSED = (
        "NotProposed",
        "A proposal could not be made, pushed or opened",
        "A failed gate asks for a commit that moves the next strategy to the top of the ladder. It is not there as a "
        "pull request yet, so a person has to take the last step.",
        "The message has the command that does it by hand; the next `apply` tries again.",
        "strategies.md#proposals-the-next-strategy-as-a-pull-request",
    )
    HISTORY_REWRITTEN = (
        "HistoryRewritten",
        "What was trained rests on a commit that is not in the history any more",
        "The branch was rewritten since, or the commit was never merged. What is trained stands; what it was applied "
        "from may be lost with the commit.",
        "The message has the command that keeps the commit, or says where its manifests are on record.",
        "authority.md",
    )
    CHECKPOINT_LOST = (
        "CheckpointLost",
        "A checkpoint that a done stage ended with is gone or damaged",
        "It was whole once. This program never takes one away that ends a stage or a leg, so "
        "somebody else did, or the filesystem lost it. The stage stays done, and nothing is trained again unasked; a "
        "stage that starts from it is held.",
        "Put it back from a backup or a snapshot, at the path in the message.",
        "checkpoints.md",
    )
    NOT_APPROVED = (
        "NotApproved",
        "The commit lacks an approval that is asked for",
        "The campaign's `authority`, or the configuration of whoever applies, asks for a signature or a review that "
        "the commit does not have. Nothing was sent.",
        "Have it signed or merged, as the message says, and apply that commit.",
        "authority.md",
    )
    RULE_UNREADABLE = (
        "RuleUnreadable",
        "What this machine asks of commits cannot be read",
        "`reconcile.signed` or `reconcile.reviewed` in the git configuration makes no sense, so it is not known which "
        "commits may be applied, and none is.",
        "Mend it with the command that the message has.",
        "authority.md",
    )
    NOT_TOLD = (
        "NotTold",
        "A notice could not be given",
        "The command or webhook of `--notify-with` or `--notify-url` did not take a notice, or what has been told "
        "could not be put down where others see it. The campaign goes on.",
        "Mend what the message names. The notice is told again at a later look; others may tell the same one.",
        "commands.md#reconcile-apply",
    )
    # --- plans
    NOT_A_PLAN = (
        "NotAPlan",
        "The file is not a plan to apply",
        "Only what `reconcile plan -o FILE` wrote can be applied, and only as it was written: the file has a seal, "
        "since what was reviewed must be what is done.",
        "Save it again: `reconcile plan CAMPAIGN -o FILE`.",
        "ci.md",
    )
    PLAN_CHANGED = (
        "PlanChanged",
        "The saved plan no longer holds",
        "Manifests or the cluster have moved since the plan was saved, so other actions are due than were reviewed. "
        "Nothing was done; the message lists what differs.",
        "Plan again, have it reviewed, and apply that one.",
        "ci.md",
    )
    NOT_AS_APPLIED = (
        "NotAsApplied",
        "Something else is wanted than was last applied",
        "With `--unchanged`, as on a schedule, only what somebody has applied goes on; a change that was merged since "
        "waits for a person.",
        "`reconcile plan CAMPAIGN -o FILE`, and apply it.",
        "ci.md",
    )
    OVER_ALLOCATION = (
        "OverAllocation",
        "A stage is not begun that cannot be paid for",
        "Even the least that the next stage is expected to cost exceeds what is left of the allocation or of "
        "`bounds.nodeHours`.",
        "Raise the bound or the allocation in the manifests, or plan fewer tokens.",
        "rules.md#cpt073-over-allocation",
    )
    AGAINST_RULES = (
        "AgainstRules",
        "A rule of the cookbook refuses the plan",
        "A finding that only a look at the cluster can make is an error, such as a source that was logged at another "
        "learning rate than the manifest declares.",
        "Follow the finding's own code, or waive it with a reason.",
        "rules.md",
    )
    SCRIPT_DISAGREES = (
        "ScriptDisagrees",
        "A job script would do otherwise than its recipe",
        "Every script is read back from its text alone, by code that knows the launcher and not the recipe. What it "
        "would train differs from what the manifests declare, so it is not submitted.",
        "Look at the template that was changed last: `reconcile render CAMPAIGN/STAGE` shows the script and the "
        "difference.",
        "lint-script.md",
    )
    NO_SCRIPT = (
        "NoScript",
        "No job script can be made",
        "A template is broken, the stage submits no job, or what the job would need cannot be worked out.",
        "The message names the template and line, or what is missing; `reconcile validate` finds most of it.",
        "templates.md",
    )
    NO_SPEED = (
        "NoSpeed",
        "Nothing says how fast the model trains",
        "`simulate` asks no cluster, and without a speed its days and node-hours would be guesses.",
        "Declare the cluster's `throughput` for the model, or assume one, in tokens a second of one node: "
        "`reconcile simulate --throughput 50k`.",
        "simulate.md",
    )
    NO_CALL = (
        "NoCall",
        "The text calls no train_alcf.sh that can be read",
        "`lint-script` follows a script to its call of the launcher. There is none, or the shell text is broken.",
        "Give the script or the command line that calls `train_alcf.sh`.",
        "lint-script.md",
    )
    UNSOUND_PLAN = (
        "UnsoundPlan",
        "The plan would break what may never happen",
        "A second job for an attempt, a write into a checkpoint, an act on what was unread: the plan is judged by code "
        "that shares nothing with the planner, and was refused. This is a defect of this program.",
        "Nothing was done. Report it with the output of `reconcile plan --json`.",
        "architecture.md#follow-one-pass",
    )
    # --- the cluster and the link
    UNREACHABLE = (
        "Unreachable",
        "The cluster cannot be reached",
        "There was no connection, so nothing was sent and the cluster is unchanged. Jobs there go on.",
        "The message says which host and why; `reconcile doctor CLUSTER` looks at each step of the way.",
        "clusters.md",
    )
    HOST_KEY_UNTRUSTED = (
        "HostKeyUntrusted",
        "The host key is not the one on file",
        "Who answered could not prove to be the host that was meant, or it is not known yet. Keys are never learned by "
        "themselves, since that is the moment in which a password is stolen.",
        "Compare the fingerprint with the one that the centre publishes, then connect once with `ssh` and accept it.",
        "clusters.md",
    )
    LOGIN_REFUSED = (
        "LoginRefused",
        "The host does not let us in",
        "The host is the right one, and refused every key, certificate and password that was offered. It is not "
        "tried again, since some hosts lock an account after few refusals.",
        "Try `ssh HOST true`; what works there works here. One-time passwords need a terminal or an open connection.",
        "clusters.md",
    )
    HOST_BUSY = (
        "HostBusy",
        "The host turns connections away",
        "It closed the connection before the login, as login nodes do when too many are open.",
        "Wait a minute and run the command again.",
        "clusters.md",
    )
    LINK_LOST = (
        "LinkLost",
        "The link broke before a whole answer came",
        "A look changes nothing, so nothing is lost. What an `apply` had sent by then is in the journal on the cluster "
        "and is found at the next look.",
        "Run the command again.",
        "pbs-cases.md",
    )
    COMMAND_FAILED = (
        "CommandFailed",
        "The command on the cluster failed",
        "The agent's Python was not found there or ended with an error before it answered.",
        "`reconcile doctor CLUSTER` says which part is missing.",
        "doctor.md",
    )
    OUTCOME_UNKNOWN = (
        "OutcomeUnknown",
        "It is not known what came of the last batch",
        "It was sent, and no whole answer came back. Nothing is repeated: every action is in the journal under its "
        "key, and the next look tells what ran.",
        "`reconcile status CAMPAIGN`, then go on with `reconcile apply CAMPAIGN`.",
        "pbs-cases.md",
    )
    LOCKED = (
        "Locked",
        "Somebody else is applying",
        "One batch at a time is carried out in a workspace. Whoever holds the lock is at work, or was stopped so hard "
        "that it could not let go.",
        "Wait for the other. If it has certainly ended, `reconcile unlock` takes the lock away.",
        "clusters.md",
    )
    OVERTAKEN = (
        "Overtaken",
        "Somebody else has applied something else meanwhile",
        "Since the look that this was planned by, other manifests were applied, and with them perhaps another rule of "
        "`authority`. What was approved may be so no longer, so nothing was done.",
        "Look again: `reconcile plan CAMPAIGN`, then `reconcile apply CAMPAIGN`.",
        "authority.md#who-asks",
    )
    AGENT_FAILED = (
        "AgentFailed",
        "The agent could not do what was asked",
        "It ran on the cluster, says why it could not, and changed nothing.",
        "The message has its words; `reconcile doctor CLUSTER` looks at what it relies on.",
        "doctor.md",
    )
    NO_LOCAL_CLUSTER = (
        "NoLocalCluster",
        "The cluster on this machine has not been made",
        "A Cluster with a local transport is a small PBS and trainer in a folder of the repository. It is not there "
        "yet, cannot be made, or lacks torch.",
        "`reconcile local CAMPAIGN` makes it; `make quickstart` installs what it needs.",
        "pbs-subset.md",
    )
    PACE_NOT_SHARED = (
        "PaceNotShared",
        "Looks are not kept apart from those of your other processes",
        "How often a login node is asked is shared by all of a person's processes through a small file, and that "
        "cannot be used. This process keeps its own pace.",
        "Make the file's folder writable, or run one `apply` at a time.",
        "clusters.md",
    )
    # --- runs made by hand
    NOT_ADOPTED = (
        "NotAdopted",
        "The run cannot be said by manifests",
        "What lies at the path is no run of the launcher, is made by a campaign already, or is something that the "
        "manifests cannot say. Nothing was written.",
        "The message says which part; `--log`, `--script` and `--iteration` tell what the folder does not.",
        "adopt.md",
    )
    # --- checkpoints by hand
    NOT_CONVERTED = (
        "NotConverted",
        "The checkpoint was not converted or verified",
        "It is not whole, names what may not be read, or a tensor is not what the shards hold. Nothing was published "
        "and the source is as it was.",
        "The message names file and tensor; `reconcile checkpoints PATH` shows which checkpoints are whole.",
        "checkpoints.md#conversion",
    )


FAULTS: Final = {str(fault): fault for fault in Fault}
"""Code → fault."""
