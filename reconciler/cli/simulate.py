"""`reconcile simulate`: a whole campaign on a cluster that is not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from reconciler.cli import machine
from reconciler.cli.human import simulation as view
from reconciler.cli.opening import manifests_option, open_campaign
from reconciler.cli.screen import screen
from reconciler.cli.telling import fail
from reconciler.cluster.process import SystemClock
from reconciler.model.cluster import LocalTransport
from reconciler.model.faults import Fault
from reconciler.model.quantities import Unreadable, parse_duration, parse_tokens
from reconciler.planner.desired import Desired
from reconciler.simulate.assumptions import Assumptions, Failing, Gate, NoSpeed, NotThere
from reconciler.simulate.run import End
from reconciler.simulate.run import simulate as run

QUEUE_WAIT_S = 3600.0
"""Where nobody says how long jobs wait; on this machine they do not."""


def _quantity(parse: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    def read(context: click.Context, option: click.Parameter, text: str | None) -> Any:
        try:
            return None if text is None else parse(text)
        except Unreadable as error:
            raise click.BadParameter(str(error)) from error

    return read


def _failing(text: str) -> Failing:
    """`STAGE`, `STAGE:STRATEGY` or `STAGE:STRATEGY:GATE`."""
    stage, _, rest = text.partition(":")
    strategy, _, gate = rest.partition(":")
    if gate and gate not in list(Gate):
        raise Unreadable(f"there is no gate {gate!r} to fail; there is {', '.join(Gate)}")
    return Failing(stage, strategy, Gate(gate) if gate else None)


@click.command(short_help="Carry a whole campaign out on a simulated cluster, to see what would happen.")
@click.argument("campaign", required=False)
@manifests_option
@click.option("--queue-wait", metavar="TIME", callback=_quantity(parse_duration),
              help="How long every job waits in its queue.  [default: 1h; on this machine 0s]")  # fmt: skip
@click.option("--throughput", metavar="TOKENS", callback=_quantity(parse_tokens),
              help="Tokens a second of one node.  [default: what the cluster declares]")  # fmt: skip
@click.option("--gate-fails", "failing", multiple=True, metavar="STAGE[:STRATEGY[:GATE]]",
              callback=lambda context, option, texts: tuple(_quantity(_failing)(context, option, t) for t in texts),
              help="Have a gate fail a strategy: the first one that is tried, the named one, or every one with * "
              "(repeatable).  [default: every gate passes]")  # fmt: skip
@click.option("--job-fails-every", metavar="N", type=click.IntRange(min=1),
              help="Have each N-th job be killed half-way.  [default: no job fails]")  # fmt: skip
@click.option("--go-on", is_flag=True, help="Answer a failed gate at once with the next strategy, where the campaign "
              "waits for a person.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output, with every step.")
def simulate(
    campaign: str | None,
    paths: tuple[Path, ...],
    queue_wait: Any,
    throughput: int | None,
    failing: tuple[Failing, ...],
    job_fails_every: int | None,
    go_on: bool,
    as_json: bool,
) -> int:
    """Show what would happen to a whole campaign before it costs anything.

    The planner that `apply` uses decides at every step, from nothing to the end, on a cluster that is simulated: each
    job waits, runs and ends as is assumed, and the assumptions stand at the top. No cluster is asked and nothing is
    written. Losses are assumed and never predicted: gates pass unless --gate-fails says which do not.

    Exit status: 0 when every stage would be done, 1 when the campaign would be held or refused before that.
    """
    desired = open_campaign(paths, campaign).desired
    if throughput == 0:
        raise click.BadParameter("more than 0 tokens a second are expected", param_hint="--throughput")
    wait_s = _default_wait_s(desired) if queue_wait is None else float(queue_wait)
    assumed = Assumptions(wait_s, throughput, failing, job_fails_every, merged=go_on)
    try:
        made = run(desired, assumed, SystemClock().now_s())
    except NoSpeed as error:
        fail(Fault.NO_SPEED, str(error), f"reconcile simulate {desired.campaign} --throughput 50k")
    except NotThere as error:
        fail(Fault.NO_SUCH_NAME, str(error))
    if as_json:
        click.echo(machine.simulation_json(made), nl=False)
    else:
        screen().print(view.render(made))
    return 0 if made.end is End.DONE else 1


def _default_wait_s(desired: Desired) -> float:
    return 0.0 if isinstance(desired.cluster.transport, LocalTransport) else QUEUE_WAIT_S
