"""Facts about a cluster → what is right, doubtful or wrong with it, and what to do about that. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.cluster import doctor_pbs, doctor_training, doctor_workspace
from reconciler.cluster.doctor_need import Need
from reconciler.cluster.doctor_report import Check, ok
from reconciler.cluster.fields import Fields


def judge(facts: Fields, need: Need, took_s: float, sent_s: float, received_s: float) -> Iterator[Check]:
    """Every check of what the far side told in `took_s`; the other times are this machine's, around the exec.

    Raises:
        Malformed: the answer is not as agreed; the checks before that stand.
    """
    version, executable = facts.line("python"), facts.line("executable")
    yield ok("python", f"{version} at {executable or 'python3'}, for looking and acting; jobs have their own")
    pbs, workspace = facts.mapping("pbs"), facts.mapping("workspace")
    yield from doctor_pbs.checks(Fields(pbs, "pbs"), need)
    yield doctor_workspace.clocks(
        facts.number("now"),
        took_s,
        Fields(pbs, "pbs"),
        Fields(workspace, "workspace"),
        sent_s,
        received_s,
    )
    yield from doctor_workspace.checks(Fields(workspace, "workspace"), need)
    yield doctor_training.launcher(facts.fields("launcher"), need)
    yield doctor_training.environment(facts.fields("environment"), need)
    yield from doctor_training.data(facts.mapping("lists"), need)
    yield from doctor_training.sources(facts.mapping("sources"), need)


def names(need: Need) -> tuple[str, ...]:
    """The names of all that `judge` gives when the answer is whole, in order."""
    return ("python", *doctor_pbs.names(need), "clocks", *doctor_workspace.NAMES, *doctor_training.names(need))
