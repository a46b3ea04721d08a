"""The command `reconcile`: arguments and exit statuses. Decisions are in the planner, effects in the adapters."""

from __future__ import annotations

import importlib
import io
import sys

import click
from click.shell_completion import CompletionItem

from reconciler.cli import completing
from reconciler.cli.telling import fail
from reconciler.model.faults import Fault
from reconciler.model.problems import clip, near, one_of
from reconciler.model.templates import Unrenderable

COMMANDS = {
    "init": ("reconciler.cli.init", "init"),
    "new": ("reconciler.cli.new", "new"),
    "validate": ("reconciler.cli.validate", "validate"),
    "schema": ("reconciler.cli.validate", "schema"),
    "plan": ("reconciler.cli.plan", "plan"),
    "simulate": ("reconciler.cli.simulate", "simulate"),
    "apply": ("reconciler.cli.apply", "apply"),
    "status": ("reconciler.cli.status", "status"),
    "watch": ("reconciler.cli.watch", "watch"),
    "report": ("reconciler.cli.report", "report"),
    "why": ("reconciler.cli.why", "why"),
    "history": ("reconciler.cli.history", "history"),
    "show": ("reconciler.cli.show", "show"),
    "diff": ("reconciler.cli.diff", "diff"),
    "ledger": ("reconciler.cli.ledger", "ledger"),
    "checkpoints": ("reconciler.cli.checkpoints", "checkpoints"),
    "doctor": ("reconciler.cli.doctor", "doctor"),
    "render": ("reconciler.cli.render", "render"),
    "explain": ("reconciler.cli.explain", "explain"),
    "lint-script": ("reconciler.cli.lint_script", "lint_script"),
    "mix": ("reconciler.cli.mix", "mix"),
    "adopt": ("reconciler.cli.adopt", "adopt"),
    "convert": ("reconciler.cli.convert", "convert"),
    "verify": ("reconciler.cli.convert", "verify"),
    "local": ("reconciler.cli.local", "local"),
    "unlock": ("reconciler.cli.unlock", "unlock"),
    "completion": ("reconciler.cli.completion", "completion"),
}


class Lazy(click.Group):
    """Imports a command when it is used: `reconcile validate` pays for nothing that `apply` needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, or None."""
        if cmd_name not in COMMANDS:
            return None
        if ctx.resilient_parsing and (outline := completing.outline(cmd_name)) is not None:
            return outline
        module, name = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return completing.completed(command, cmd_name) if ctx.resilient_parsing else command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The names of commands, none of which is imported for that."""
        names = [CompletionItem(name) for name in COMMANDS if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the command that was probably meant."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            meant = near(args[0], COMMANDS)
            hint = f"Did you mean {meant}?" if meant else f"There is {one_of(COMMANDS)}."
            ctx.fail(f"there is no command {clip(args[0], 40)}. {hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="cpt-reconciler", prog_name="reconcile")
def reconcile() -> None:
    """Continual pre-training as GitOps: stages in git, reconciled with a PBS cluster until done.

    A campaign trains a language model in stages. Each stage's dataset, mixture, checkpoint source and learning-rate
    policy is a manifest in git. `plan` compares what the manifests want with what is on the cluster and says what
    would happen and why; `apply` does it, and with --until-done goes on until every stage is done.

    \b
    A first look, on this machine:
        reconcile local quickstart
        reconcile plan quickstart
        reconcile apply quickstart --until-done

    \b
    Exit status:
        0    done, or nothing to do
        1    something is wrong, refused or held; the message says what to do
        2    wrong usage; with `plan --detailed-exitcode`: there is something to do
        130  interrupted; the cluster goes on, `reconcile apply` takes it up again
    """


def _shown(error: click.ClickException) -> str:
    """As click says it, with its code."""
    said = io.StringIO()
    error.show(said)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return said.getvalue().rstrip()  # that is the help, not a mistake
    code = Fault.WRONG_USAGE if isinstance(error, click.UsageError) else Fault.SYSTEM_REFUSED
    return f"{said.getvalue().rstrip()} [{code}]"


def main() -> None:
    """Entry point of the command."""
    try:
        status = reconcile.main(standalone_mode=False)
    except click.ClickException as error:
        click.echo(_shown(error), err=True)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("\nreconcile: interrupted; nothing more is done from here", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone, as `| head` does
        sys.exit(141)
    except Unrenderable as error:
        fail(Fault.NO_SCRIPT, f"no job script can be made: {clip(str(error), 1000)}")
    except OSError as error:
        fail(Fault.SYSTEM_REFUSED, str(error))
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
