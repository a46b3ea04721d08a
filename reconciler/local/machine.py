"""Makes a machine to train on out of this computer: PBS commands, a launcher checkout, token data, a workspace.

    bin/        qsub, qstat and the rest (`reconciler.local.pbs`)       spool/      their records
    launcher/   train_alcf.sh, as job scripts call it                   workspace/  where stages keep what they make
    data/       token files; lists D0.txt … D3.txt, val-D0.txt … val-D3.txt

`python -m reconciler.local.machine ROOT` does it. Running it again does nothing; a killed one is carried on.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import platform
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from reconciler.local.corpora import build as corpora

VERSION: Final = 1
"""Raise when anything below changes what lies under the root; machines of another version are built anew."""
NODES: Final = ("local-0", "local-1", "local-2", "local-3")
QUEUE: Final = "workq"
MARKER: Final = "machine.json"
IGNORED: Final = ".gitignore"
SCALES: Final = corpora.SCALES

_LAUNCHER: Final = """\
#!/usr/bin/env bash
# Stands in for the Megatron-DeepSpeed launcher, with its habits: it works in the directory it is called from, reads its
# settings from the environment, and ends with tee's status, so 0 also when training failed. Evidence is in the log.

python={python}
export PYTHONPATH={packages}${{PYTHONPATH:+:${{PYTHONPATH}}}}

stamp() {{
    printf '[%s,000000][I][ezpz/launch:444:launch] ' "$(date '+%Y-%m-%d %H:%M:%S')"
}}

launch() {{
    local status
    SECONDS=0
    "${{python}}" -m reconciler.local.trainer "$@"
    status=$?
    stamp; printf 'Execution finished with %d.\\n' "${{status}}"
    stamp; printf 'Took %d seconds to run. Exiting.\\n' "${{SECONDS}}"
    return "${{status}}"
}}

folder="${{CKPT_DIR:-checkpoints/local}}"
log="${{PWD}}/logs/${{folder##*/}}/$(date '+%Y%m%d-%H%M%S')_$$_${{HOSTNAME:-local}}/output.log"
mkdir -p "${{log%/*}}"
echo "${{log}}" >>logs/latest
echo "Output will be saved to ${{log}}" | tee -a "${{log}}"
launch "$@" |& tee -a "${{log}}"
"""


def build(root: Path, *, scale: str = "quickstart") -> None:
    """Make everything under `root`, or nothing when it is there already.

    `scale` is `quickstart`, or `tiny` for token files of a tenth of the size that take about a second. Every file
    appears whole under its name and the marker comes last, so a killed build leaves nothing that a second trusts.

    Raises:
        ValueError: no such scale, or a blank in the path.
        TooFewDocuments: this Python installation carries too little text.
    """
    if scale not in SCALES:
        raise ValueError(f"there is no scale {scale!r}; known are {', '.join(SCALES)}.")
    root = root.absolute()
    corpora.refuse_blanks(str(root))
    root.mkdir(parents=True, exist_ok=True)
    if not (root / IGNORED).exists():  # `git add -A` must not take the machine in: programs from git are not run
        _write(root / IGNORED, "*\n")
    wanted = _identity(root, scale)
    with _locked(root):
        if _read_marker(root) == wanted:
            return
        (root / MARKER).unlink(missing_ok=True)
        (root / "workspace").mkdir(exist_ok=True)
        corpora.build(root / "data", scale=scale)
        _write_launcher(root / "launcher")
        _install_pbs(root)
        _write(root / MARKER, json.dumps(wanted, indent=2, sort_keys=True) + "\n")


def _identity(root: Path, scale: str) -> dict[str, object]:
    """What the files under the root depend on: data lists hold absolute paths, scripts the interpreter."""
    return {
        "version": VERSION,
        "root": str(root),
        "scale": scale,
        "python": sys.executable,
        "python_version": platform.python_version(),
        "packages": str(_packages()),
    }


def _packages() -> Path:
    return Path(__file__).resolve().parents[2]


def _read_marker(root: Path) -> object:
    try:
        return json.loads((root / MARKER).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """One build at a time; the lock goes with the process that holds it."""
    with (root / ".building").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write_launcher(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    script = folder / "train_alcf.sh"
    text = _LAUNCHER.format(python=shlex.quote(sys.executable), packages=shlex.quote(str(_packages())))
    _write(script, text, mode=0o755)
    # What a site's modules do for a job: the `python3` of its scripts is the one that has torch.
    programs = shlex.quote(str(Path(sys.executable).parent))
    _write(folder / "environment.sh", f"export PATH={programs}:$PATH\n")


def _install_pbs(root: Path) -> None:
    from reconciler.local.pbs import Queue, Vnode, install

    # One cpu a node: a job that asks for two nodes gets two ranks, and nodes are never shared.
    install(root / "bin", root / "spool", nodes=[Vnode(name, 1) for name in NODES], queues=[Queue(QUEUE)])


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.chmod(mode)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def main(arguments: list[str] | None = None) -> int:
    """Build from the command line; exit status 0, or 1 with one line on standard error."""
    parser = argparse.ArgumentParser(
        prog="python -m reconciler.local.machine", description="Make a machine to train on."
    )
    parser.add_argument("root", type=Path, metavar="ROOT", help="folder to make it in")
    parser.add_argument("--scale", choices=SCALES, default="quickstart", help="size of the token files")
    options = parser.parse_args(arguments)
    try:
        build(options.root, scale=options.scale)
    except (OSError, ValueError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    print(f"{options.root.absolute()} is ready: bin/, data/, launcher/, spool/, workspace/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
