"""Situations in which recordings were made, told as steps.

A step is a recording's name (run its command, compare the answer) or one of the actions below. A recording whose
answer is a single job id is submitted under the recorded id, so that later commands need no translation.
"""

from __future__ import annotations

from typing import NamedTuple


class Submit(NamedTuple):
    """Submit a job that the recordings mention but do not show being submitted."""

    seq: int
    options: str
    script: str = "echo x"


class Wait(NamedTuple):
    """Until a job is in one of these states."""

    seq: int
    states: str = "F"


class Run(NamedTuple):
    """A command that was not recorded."""

    command: str
    rc: int = 0


class Configure(NamedTuple):
    """Change the server: whether the caller is a manager, whether and how long history is kept."""

    history: bool = True
    history_duration_s: int = 1_209_600


class Age(NamedTuple):
    """Let time pass for the history: its records, and the last look for old ones, are older by so much."""

    seconds: int


class Reboot(NamedTuple):
    """Kill a job's supervisor, as a node daemon that is killed."""

    seq: int


Step = str | Submit | Wait | Run | Configure | Age | Reboot


def ended(prefix: str, seq: int, *parts: str) -> list[Step]:
    return [Wait(seq), *(f"{prefix}-{part}" for part in parts)]


def finished(seq: int, name: str, files: bool = True) -> list[Step]:
    return ended(f"fin-{name}", seq, "finished", *(["files"] if files else []))


FIRST_SUBMISSIONS: list[Step] = [
    "qsub-version", "qsub-ok-script", "qsub-ok-options", "qsub-ok-stdin", "qsub-ok-dashdash", "qsub-ok-account",
    "qsub-ok-no-account", "qsub-ok-filesystems", "qsub-ok-route-queue", "qsub-ok-stopped-queue", "qsub-ok-name-230",
    "qsub-ok-crlf-script", "qsub-ok-empty-script", "qsub-ok-stdin-devnull", "qsub-ok-quiet-z",
    "qsub-name-starts-with-digit", "qsub-name-odd-ok", "qsub-max_queued-1-ok", "qsub-max_queued-2-ok",
    "qsub-reject-max_queued-3", "qsub-scriptname-plain", "qsub-scriptname-digit-space", "qsub-scriptname-odd",
    "qsub-20-parallel",
]  # fmt: skip

REFUSED_SUBMISSIONS: list[Step] = [
    "qsub-bad-directive-in-script", "qsub-args-backslash-unicode",
    *(
        f"qsub-reject-{name}"
        for name in (
            "bad-W", "bad-array", "bad-join", "depend-syntax", "depend-unknown-type", "disabled-queue",
            "missing-script", "name-colon", "name-empty", "name-quote", "name-slash", "name-space", "name-too-long",
            "name-unicode", "ncpus-and-select", "place-garbage", "script-is-dir", "select-garbage", "select-zero",
            "two-scripts", "unknown-option", "unknown-queue", "unknown-resource", "unknown-resource-in-select",
            "unknown-server", "v-garbage", "walltime-garbage", "walltime-over-queue-max",
        )
    ),
    "dep-afterok-on-garbage", "dep-afterok-on-other-server", "fin-qsub-interactive-no-tty", "qstat-bad-format",
]  # fmt: skip

VARIABLES_SEEN = [
    (30, "plain-two"), (31, "comma-doublequoted-inside"), (32, "comma-singlequoted-inside"), (33, "comma-backslash"),
    (34, "doublequote-escaped"), (37, "backslash-single"), (38, "backslash-double"), (39, "backslash-trailing"),
    (40, "newline"), (41, "tab-and-control"), (42, "unicode"), (44, "equals"), (45, "empty-value"),
    (46, "dollar-backtick"), (47, "semicolon-amp-space"), (48, "typed-lookalikes"), (49, "duplicate-names"),
    (50, "two-v-options"), (51, "url-and-colon"), (52, "from-environment"), (220, "invalid-utf8"),
    (238, "env-newline"), (239, "env-trailing-backslash"), (240, "env-trailing-space"),
]  # fmt: skip
VARIABLES: list[Step] = [
    *(f"qsub-v-{name}" for _, name in VARIABLES_SEEN[:-4]),
    "qsub-v-invalid-utf8", "qsub-v-long-value-20k", "qstat-v-long-value-20k",
    *(f"qsub-v-{name}" for _, name in VARIABLES_SEEN[-3:]),
    *(
        f"qsub-v-{name}"
        for name in (
            "comma-naked", "directive-in-script", "env-all-specials", "env-two-names", "singlequote-in-doublequotes",
            "singlequote-in-value", "unset-in-environment",
        )
    ),
    *(
        step
        for seq, name in VARIABLES_SEEN
        for step in (Wait(seq), f"jobsees-v-{name}", f"qstat-v-{name}")
    ),
    "qstat-v-comma-doublequoted-inside-plain", "qstat-v-newline-plain", "qstat-v-newline-dsv",
    "qstat-v-invalid-utf8-hexdump",
]  # fmt: skip

ARGUMENTS_SEEN = [
    (109, "quotes"), (110, "comma-path"), (111, "account-odd"), (112, "account-number"), (113, "name-number-like"),
    (114, "directives-only"), (115, "no-args"), (116, "dashdash"),
]  # fmt: skip
ARGUMENTS: list[Step] = [
    *(f"qsub-args-{name}" for _, name in ARGUMENTS_SEEN),
    *(step for seq, name in ARGUMENTS_SEEN for step in (Wait(seq), f"qstat-args-{name}")),
    "jobfiles-dashdash",
    "env-job-qsub", "env-nodefile-select2-qsub", "env-nodefile-select1-ncpus4-qsub",
    "env-noselect-nodes-old-syntax-qsub",
    *ended("env-job", 117, "finished"),
    *ended("env-nodefile-select2", 118, "finished", "files"),
    *ended("env-nodefile-select1-ncpus4", 120, "finished", "files"),
    *ended("env-noselect-nodes-old-syntax", 121, "finished", "files"),
    "qsub-scriptname-digit", "qsub-scriptname-long", "nodefile-and-job-in-other-shell",
    *ended("qstat-scriptname", 217, "digit"), *ended("qstat-scriptname", 219, "long"),
]  # fmt: skip

ENDS: list[Step] = [
    *(
        f"fin-{name}-qsub"
        for name in (
            "ok", "exit3", "exit255", "last-command-failed", "command-not-found", "kill9-self", "term-self",
            "segv-self", "child-kill9", "exit137", "walltime", "walltime-trap-exit0", "walltime-ignores-term",
            "walltime-joined",
            "cput", "bad-shell-S", "bad-interpreter", "python-interpreter", "python-S", "join-oe",
            "output-dir-missing", "output-dir-missing-k-doe", "output-to-dir", "k-oe", "R-remove",
        )
    ),
    "fin-qsub-block", "fin-qsub-block-signal", "fin-empty-script-qsub",
    *finished(79, "ok"), *finished(80, "exit3"), *finished(81, "exit255"), *finished(82, "last-command-failed"),
    *finished(83, "command-not-found"), *finished(84, "kill9-self"), *finished(85, "term-self"),
    *finished(86, "segv-self"), *finished(87, "child-kill9"), *finished(88, "exit137"), *finished(93, "cput"),
    *finished(96, "bad-shell-S"), *finished(97, "bad-interpreter"), *finished(98, "python-interpreter"),
    *finished(99, "python-S", files=False), *finished(100, "join-oe"),
    *finished(101, "output-dir-missing", files=False),
    Wait(102, "H"), "fin-output-dir-missing-k-doe-end",
    *finished(104, "output-to-dir", files=False), "fin-output-to-dir-ls",
    *finished(105, "k-oe", files=False), *finished(106, "R-remove", files=False), *finished(269, "empty-script"),
    *finished(89, "walltime"), *finished(90, "walltime-trap-exit0"),
    *finished(91, "walltime-ignores-term"), Wait(92), "fin-walltime-joined-finished",
]  # fmt: skip

STATES: list[Step] = [
    "qstat-none-default", "qstat-none-Q-default", "qstat-none-json", "qsub-ok-stopped-queue",
    "state-Q-qsub", "state-H-user-qsub", Submit(64, "-N heldo -q idle"), "state-H-operator-qhold",
    Submit(65, "-N helds -q idle"), "state-H-system-qhold", "state-W-qsub",
    "state-Q-queued-stopped-queue", "state-H-user-hold", "state-H-operator-hold", "state-H-system-hold",
    "state-W-waiting-until", "state-Q-toobig-qsub", "state-Q-can-never-run", "state-Q-scatter-qsub",
    "state-Q-scatter-two-hosts", "state-R-qsub",
    Submit(70, "-N filler -q debug -l select=1:ncpus=7", "sleep 100"), Wait(70, "R"), Wait(69, "R"),
    "state-Q-noresources-qsub", "state-Q-insufficient-ncpus", "state-R-running", "state-R-running-plain",
    "state-H-depend-qsub", "state-H-dependency-hold", "state-R-with-dependent",
    "qstat-many-json", "qstat-all-json", "qstat-default", "qstat-dsv", "qstat-a", "qstat-aw", "qstat-n-nodes",
    "qstat-s-comment", "qstat-u-alcf", "qstat-u-alcf-wide", "qstat-u-unknown-user", "qstat-u-user-no-jobs",
    "qstat-u-with-json", "qstat-queue-arg-json",
    "qselect-all", "qselect-Q", "qselect-H", "qselect-R", "qselect-W", "qselect-F", "qselect-comma-states",
    "qselect-bad-state", "qselect-bad-user", "qselect-name", "qselect-nomatch",
    "qhold-queued", "qhold-queued-after", "qrls-queued", "qrls-queued-after", "qrls-not-held",
    "qhold-running", "qhold-running-after", "qhold-unknown", "qrls-running", "qrls-unknown",
    "qrls-operator-hold-as-user", "qrls-system-hold-as-user", "qrls-u-on-system-hold", "qrls-u-on-system-hold-after",
    "qrls-dependency-hold-as-user", Run("qdel 70"), Wait(70), "qrls-dependency-hold-s-as-root",
    Wait(72), "qdel-running-dependent-after",
    "qalter-queued", "qalter-queued-after", "qalter-queued-bad-walltime", "qalter-unknown", "qalter-depend-away",
    "qalter-running-name", "qalter-running-select", "qalter-running-walltime-down-as-user",
    "qalter-running-walltime-up-as-user", "qalter-running-walltime-as-root", "qalter-running-after",
    "qdel-held", "qdel-held-after", "qalter-finished", "qhold-finished", "qrls-finished",
    "qdel-noargs", "qdel-garbage-id", "qdel-unknown", "qdel-unknown-server", "qdel-full-id-wrong-server",
    "qdel-running", Wait(69), "qdel-running-finished", "qdel-running-qstat-without-x", "qdel-finished", "qdel-mixed",
    "qdel-mixed-after", "qdel-x-finished", "qdel-x-finished-then-qstat",
    Submit(73, "-N forced -q debug -l select=1:ncpus=1", "sleep 100"), Wait(73, "R"), "qdel-force-running", Wait(73),
    Submit(74, "-N trapterm -q debug -l select=1:ncpus=1", "trap 'echo got TERM; exit 7' TERM; sleep 60 & wait"),
    Wait(74, "R"), Run("sleep 0.3"), "qdel-running-trap-exit7", Wait(74), "qdel-running-trap-exit7-finished",
    "qdel-running-trap-exit7-files",
    Submit(75, "-N ignoreterm -q debug -l select=1:ncpus=1", "trap '' TERM; while :; do sleep 1; done"),
    Wait(75, "R"), Run("sleep 0.3"), "qdel-running-ignores-term", Wait(75), "qdel-running-ignores-term-finished",
    "qdel-all-mine",
]  # fmt: skip

OPERANDS: list[Step] = [
    Submit(198, "-N srvq -q idle"), Submit(199, "-N srvf -q debug -l select=1:ncpus=1"), Wait(199),
    *(
        f"qstat-{name}"
        for name in (
            "F-json-without-f", "empty-id", "finished-and-unknown-without-x", "finished-without-x",
            "id-other-server-suffix", "known-and-finished-without-x", "known-and-unknown",
            "known-finished-unknown-with-x", "malformed-id", "malformed-id2", "negative", "other-server",
            "same-id-twice", "short-id", "unknown", "unknown-and-finished-without-x", "unknown-first",
            "unknown-option", "unknown-plain", "unknown-x", "word-is-queue", "x-f-json-finished-default-line",
            "B-timezone-free-dates", "Q-default", "Q-json", "Q-json-one", "Q-unknown",
        )
    ),
    "pbsnodes-unknown",
    Submit(200, "-N filler -q debug -l select=1:ncpus=1", "sleep 100"), Wait(200, "R"),
    "pbsnodes-a-json", "pbsnodes-aj-json", Run("qdel 198 200"), Wait(200),
    Submit(231, "-N ea -q idle"), Submit(232, "-N eb -q idle"), 
    Submit(233, "-N ec -q debug -l select=1:ncpus=1", "sleep 100"), Wait(233, "R"),
    Submit(234, "-N ef -q debug -l select=1:ncpus=1", "exit 2"), Wait(234),
    *(
        f"qstat-several-ids-{name}"
        for name in (
            "E-finished-without-x", "E-json", "E-same-id-twice", "E-short-ids", "E-unknown-first", "E-unknown-middle",
            "default", "dsv", "json-only-first", "plain-f",
        )
    ),
    "qstat-two-queues-json", "qdel-several",
]  # fmt: skip

PAST_PARENTS = ((129, "ok"), (130, "failed"), (131, "qdeled-running"), (132, "qdeled-queued"))
KINDS = (("afterok", 133), ("afternotok", 137), ("afterany", 141), ("after", 145))
PAST_DEPENDENCIES: list[Step] = [
    Submit(129, "-N dpok -q debug -l select=1:ncpus=1", "exit 0"), Wait(129),
    Submit(130, "-N dpfail -q debug -l select=1:ncpus=1", "exit 1"), Wait(130),
    Submit(131, "-N dpdel -q debug -l select=1:ncpus=1", "sleep 100"), Wait(131, "R"), Run("qdel 131"), Wait(131),
    Submit(132, "-N dpq -q idle"), Run("qdel 132"), Wait(132),
    *(f"dep-{kind}-on-finished-{parent}-qsub" for kind, _ in KINDS for _, parent in PAST_PARENTS),
    *(
        step
        for kind, first in KINDS
        for number, (_, parent) in enumerate(PAST_PARENTS)
        for step in (
            Wait(first + (0, 1, 2, 3)[number]),
            f"dep-{kind}-on-finished-{parent}-then",
        )
    ),
    "dep-afterok-on-unknown", Wait(212), "dep-afterok-on-unknown-then", "dep-afterok-on-unknown-then-without-x",
    "dep-afterany-on-unknown", Wait(235), "dep-afterany-on-unknown-then",
    "dep-afternotok-on-unknown", Wait(236), "dep-afternotok-on-unknown-then",
    "dep-after-on-unknown", Wait(237), "dep-after-on-unknown-then",
]  # fmt: skip


def parent(how: str, first: int, script: str, more: str = "") -> list[Step]:
    """A parent in `debug` with its three dependents, and a grandchild of the first of them."""
    return [Submit(first, f"-N par_{how} -q debug -l select=1:ncpus=1{more}", script), *children(how, first)]


def children(how: str, first: int) -> list[Step]:
    return [
        *(f"dep-live-{how}-{kind}-qsub" for kind in ("afterok", "afternotok", "afterany")),
        Submit(first + 4, f"-N grandkid -W depend=afterok:{first + 1}.pbs-host -q debug -l select=1:ncpus=1"),
    ]


def outcome(how: str, first: int, *, ends: bool = True) -> list[Step]:
    return [
        *(Wait(seq) for seq in range(first, first + 5) if ends),
        f"dep-live-{how}-parent",
        *(f"dep-live-{how}-{kind}-then" for kind in ("afterok", "afternotok", "afterany")),
        f"dep-live-{how}-grandchild-then",
    ]


LIVE_DEPENDENCIES: list[Step] = [
    Submit(129, "-N dpok -q debug -l select=1:ncpus=1", "exit 0"),
    *parent("ok", 150, "until [ -e go ]; do sleep 0.05; done; exit 0"),
    *parent("exit1", 155, "until [ -e go ]; do sleep 0.05; done; exit 1"),
    *parent("walltime", 160, "sleep 60", " -l walltime=2"),
    *parent("sigkill", 165, "until [ -e go ]; do sleep 0.05; done; kill -9 $$"),
    *parent("qdel-running", 170, "sleep 60"),
    Submit(175, "-N par_qdel-queued -q idle"), *children("qdel-queued", 175),
    Run("> ~/go"), "dep-live-qdel-running-qdel", "dep-live-qdel-queued-qdel", Wait(175),
    *outcome("ok", 150), *outcome("exit1", 155), *outcome("sigkill", 165), *outcome("qdel-running", 170),
    *outcome("qdel-queued", 175, ends=False), *outcome("walltime", 160),
    Submit(185, "-N pa -q idle"), Submit(186, "-N pb -q idle"),
    "dep-multi-qsub", "dep-multi-held", "dep-multi-parent", "dep-qalter-away", "dep-qalter-away-after",
]  # fmt: skip

DEAD_SUPERVISOR: list[Step] = [
    Submit(222, "-N momry -r y -q debug -l select=1:ncpus=1", "[ -e again ] && { sleep 1; exit 4; }; >again; sleep 60"),
    Wait(222, "R"), Run("until [ -e ~/again ]; do sleep 0.05; done"), Reboot(222), "momrestart-rerunable-y-after5s",
    Wait(222), "momrestart-rerunable-y-end",
    Submit(223, "-N momrn -r n -q debug -l select=1:ncpus=1", "sleep 60"), Wait(223, "R"), Reboot(223),
    "momrestart-rerunable-n-after5s", "momrestart-rerunable-n-end",
]  # fmt: skip

HISTORY: list[Step] = [
    Submit(226, "-N expire -q debug -l select=1:ncpus=1", "exit 2"), Wait(226), "expiry-before",
    Configure(history_duration_s=5), Age(10),
    "expiry-qstat-after", "expiry-qstat-x-after", "expiry-qdel-after",
    "expiry-qsub-afterok-after", "expiry-qsub-afterany-after",
    Submit(229, "-N srvf -q debug -l select=1:ncpus=1"), Wait(229), Configure(history=False),
    "history-disabled-qstat", "history-disabled-qstat-x", "history-disabled-qdel", "history-disabled-qselect-x",
    "history-disabled-qsub-afterok", "history-disabled-qsub-afterok-then",
    Submit(266, "-N par -q debug -l select=1:ncpus=1", "sleep 0.3; exit 1"),
    Submit(267, "-N kid -W depend=afterok:266.pbs-host -q debug -l select=1:ncpus=1"),
    Run("while qstat 266; do sleep 0.1; done"), "history-disabled-live-exit1-afterok-then",
]  # fmt: skip

SCENARIOS: dict[str, list[Step]] = {
    "first submissions": FIRST_SUBMISSIONS,
    "refused submissions": REFUSED_SUBMISSIONS,
    "variables": VARIABLES,
    "arguments and environment": ARGUMENTS,
    "ends": ENDS,
    "states": STATES,
    "operands": OPERANDS,
    "dependencies on past jobs": PAST_DEPENDENCIES,
    "dependencies on live jobs": LIVE_DEPENDENCIES,
    "dead supervisor": DEAD_SUPERVISOR,
    "history": HISTORY,
}


def replayed() -> set[str]:
    """Every recording that some scenario compares."""
    return {step for steps in SCENARIOS.values() for step in steps if isinstance(step, str)}
