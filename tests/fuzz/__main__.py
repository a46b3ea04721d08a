"""`python -m tests.fuzz TARGET… [--seconds S | --runs N] [--seed K]`: mutate inputs until something breaks.

What breaks a promise is written to .local/fuzz/, with the way to run it again; a fixed one belongs in the corpus.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import traceback
from pathlib import Path

from tests.fuzz import TARGETS
from tests.fuzz.engine import CORPUS, Report, Target, fuzz, once

FOUND = Path(__file__).parent.parent.parent / ".local" / "fuzz"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; without one, all")
    parser.add_argument("--seconds", type=float, default=None, help="for each target  [default: 60, unless --runs]")
    parser.add_argument("--runs", type=int, default=None, help="for each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--input", type=Path, default=None, help="run this one input, and show where it breaks")
    parser.add_argument(
        "--keep", action="store_true", help="add small inputs that are taken in a new way to the corpus"
    )
    options = parser.parse_args()
    unknown = [name for name in options.targets if name not in TARGETS]
    if unknown:
        parser.error(f"there is no target {unknown[0]!r}")
    seconds = 60.0 if options.seconds is None and options.runs is None else options.seconds
    broken = False
    for name in options.targets or TARGETS:
        target = TARGETS[name]
        if options.input is not None:
            report = Report(name)
            once(target, options.input.read_bytes(), report)
        else:
            report = fuzz(target, options.seed, runs=options.runs, seconds=seconds)
        print(report, flush=True)
        _tell(target, report)
        if options.keep:
            _keep(target, report)
        broken = broken or bool(report.broken)
    return 1 if broken else 0


def _tell(target: Target, report: Report) -> None:
    for data, error in report.broken:
        path = FOUND / target.name / hashlib.sha256(data).hexdigest()[:12]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        print(f"\n{target.promise}: broken by {len(data)} bytes. Again:\n\n"
              f"    python -m tests.fuzz {target.name} --input {path}\n", file=sys.stderr)  # fmt: skip
        print("".join(traceback.format_exception(error)[-12:])[-3000:], file=sys.stderr)


def _keep(target: Target, report: Report, bytes_max: int = 1_500, files_max: int = 40) -> None:
    folder = CORPUS / target.name
    folder.mkdir(parents=True, exist_ok=True)
    for data in report.kept:
        if len(data) <= bytes_max and len(list(folder.iterdir())) < files_max:
            (folder / hashlib.sha256(data).hexdigest()[:12]).write_bytes(data)


if __name__ == "__main__":
    sys.exit(main())
