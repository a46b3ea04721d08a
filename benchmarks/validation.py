"""`reconcile validate` beside check-jsonschema on the same 1,000 manifests and the same schema.

Run:  .venv/bin/python benchmarks/validation.py [--repeats 5]

Times whole processes, alternating, so that both meet the same machine. check-jsonschema judges shape alone; ours also
keeps positions, reads quantities exactly and checks every reference, in the time given.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = ROOT / "schemas" / "cpt-v1.json"
MANIFESTS = 1_000


def documents(folder: Path) -> list[str]:
    """Every YAML document of a campaign's folder."""
    return [text for file in sorted(folder.glob("*.yaml")) for text in re.split(r"(?m)^---\n", file.read_text("utf-8"))]


def renamed(texts: list[str], suffix: str) -> list[str]:
    """The same objects under other names; stages keep theirs, since they belong to their campaign."""
    whole = "\n".join(texts)
    named = re.findall(r"kind: (Campaign|Cluster|Dataset|Model)\nmetadata:\s*\{?(?:\n +)?name: ([a-z0-9.-]+)", whole)
    names = [name for _, name in named]
    # Not inside paths, and not a value of another field such as `kind: local`.
    pattern = re.compile(rf"(?<![\w./-])(?<!kind: )(?<!machine: )(?:{'|'.join(map(re.escape, names))})(?![\w./-])")
    return [pattern.sub(lambda found: found.group(0) + suffix, text) for text in texts]


def generate(folder: Path) -> list[Path]:
    """1,000 files of one manifest each: the committed campaigns, copied; the last ones are datasets nobody uses."""
    # Those that stand alone: the walks share the cluster and the data of the quickstart.
    campaigns = [documents(file.parent) for file in sorted((ROOT / "manifests").glob("*/cluster.yaml"))]
    spare = next(text for texts in campaigns for text in texts if "kind: Dataset" in text)
    texts: list[str] = []
    copy = 0
    while len(texts) < MANIFESTS:
        campaign = campaigns[copy % len(campaigns)]
        fits = len(texts) + len(campaign) <= MANIFESTS
        texts += renamed(campaign if fits else [spare], f"-{copy}")
        copy += 1
    files = []
    for number, text in enumerate(texts):
        file = folder / f"{number:04d}.yaml"
        file.write_text(text, encoding="utf-8")
        files.append(file)
    return files


def timed(command: list[str]) -> float:
    """Seconds of wall time of one process that must succeed."""
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    took_s = time.perf_counter() - start
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return took_s


def main() -> None:
    """Print the comparison as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    scripts = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as folder:
        files = generate(Path(folder))
        commands = {
            "reconcile validate": [str(scripts / "reconcile"), "validate", folder],
            "check-jsonschema": [
                str(scripts / "check-jsonschema"),
                "--schemafile",
                str(SCHEMA),
                *map(str, files),
            ],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(repeats):
            for name, command in commands.items():
                times[name].append(timed(command))
        size_kb = sum(file.stat().st_size for file in files) / 1e3
    print(f"{len(files)} files of one manifest, {size_kb:.0f} kB; {repeats} runs each, alternating; whole processes\n")
    print("| | median (s) | fastest (s) | per manifest (ms) | positions | references |")
    print("| --- | ---: | ---: | ---: | --- | --- |")
    for name, seconds in times.items():
        median = statistics.median(seconds)
        ours = "yes" if name.startswith("reconcile") else "no"
        row = f"{median:.2f} | {min(seconds):.2f} | {median / len(files) * 1e3:.2f}"
        print(f"| {name} | {row} | {ours} | {ours} |")
    ratio = statistics.median(times["reconcile validate"]) / statistics.median(times["check-jsonschema"])
    print(f"\nOurs takes {ratio:.2f} of the other's time.")


if __name__ == "__main__":
    main()
