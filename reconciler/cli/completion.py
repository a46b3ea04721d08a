"""`reconcile completion`: what a shell needs to complete commands, options and names."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

SHELLS: Final = ("bash", "zsh", "fish")


@click.command(short_help="Print the completion of commands and names for a shell.")
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> int:
    """Print what makes SHELL complete commands, options, campaigns, stages, clusters, attempts and codes.

    Names come from the manifests and the record here; no cluster is asked.

    \b
        bash    reconcile completion bash > ~/.local/share/bash-completion/completions/reconcile
        zsh     reconcile completion zsh > "${fpath[1]}/_reconcile"     (then: compinit)
        fish    reconcile completion fish > ~/.config/fish/completions/reconcile.fish
    """
    root = click.get_current_context().find_root().command
    known = get_completion_class(shell)
    if known is None:  # pragma: no cover - click has all three
        raise click.UsageError(f"there is no completion for {shell}.")
    click.echo(known(root, {}, "reconcile", "_RECONCILE_COMPLETE").source())
    return 0
