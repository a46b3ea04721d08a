"""The commands answer as OpenPBS did, recording by recording."""

from __future__ import annotations

import difflib
import os
import re
import signal

import pytest

from tests.local.pbs import recordings
from tests.local.pbs.machine import Machine
from tests.local.pbs.scenarios import SCENARIOS, Age, Configure, Reboot, Run, Submit, Wait

FILES = {
    "job.sh": "#!/bin/bash\n#PBS -N fromscript\n#PBS -l select=1:ncpus=1,walltime=00:01:00\n#PBS -q debug\n"
    "echo hello\n",
    "plain.sh": "#PBS -q debug\necho plain\n",
    "empty.sh": "",
    "crlf.sh": "#!/bin/bash\r\n#PBS -q debug\r\necho hello\r\n",
    "2 odd name.sh": "#PBS -q debug\necho odd\n",
    'w,x"y.sh': "#PBS -q debug\necho odd\n",
    "a" * 81 + ".sh": "#PBS -q debug\necho long\n",
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario_answers_as_recorded(pbs: Machine, name: str) -> None:
    for file, text in FILES.items():
        (pbs.work / file).write_text(text, newline="")
    (pbs.work / "1script.sh").write_text(FILES["job.sh"])
    (pbs.work / "adir").mkdir()
    differences: list[str] = []
    for step in SCENARIOS[name]:
        if isinstance(step, str):
            differences += replay(pbs, recordings.load(step))
        else:
            act(pbs, step)
    assert not differences, "\n".join(differences)


def act(pbs: Machine, step: Submit | Wait | Run | Configure | Age | Reboot) -> None:
    match step:
        case Submit(seq=seq, options=options, script=script):
            pbs.next_id(seq)
            done = pbs.sh(f"qsub {options} <<'EOF'\n{script}\nEOF")
            assert done.text == f"{seq}.pbs-host\n", done
        case Wait(seq=seq, states=states):
            pbs.wait(f"{seq}.pbs-host", states)
        case Run(command=command, rc=rc):
            done = pbs.sh(command)
            assert done.rc == rc, done
        case Configure(history=history, history_duration_s=duration_s):
            pbs.configure(history=history, history_duration_s=duration_s)
        case Age(seconds=seconds):
            pbs.age(seconds)
        case Reboot(seq=seq):
            os.kill(pbs.supervisor(f"{seq}.pbs-host"), signal.SIGKILL)


def replay(pbs: Machine, recording: recordings.Recording) -> list[str]:
    """Run a recording's command and report where the answer differs."""
    recorded = recording.answer
    first_id = re.search(r"(?m)^(\d+)\.pbs-host$", recorded.text)
    if first_id and "qsub" in recording.command:
        pbs.next_id(int(first_id[1]))
    command = recording.command.replace("-u alcf", f"-u {pbs.user}")
    if recording.as_root:
        pbs.configure(managers=[pbs.user])
    got = pbs.sh(command)
    if recording.as_root:
        pbs.configure()
    lines = []
    for part, wanted, found in (
        ("rc", str(recorded.rc), str(got.rc)),
        ("stdout", recorded.text, got.text),
        ("stderr", recorded.complaint, got.complaint),
    ):
        expected = recordings.bare(wanted)
        actual = recordings.bare(recordings.ours(pbs, found))
        if expected != actual:
            lines += [f"{recording.name} {part}:"]
            lines += difflib.unified_diff(expected.splitlines(), actual.splitlines(), "recorded", "ours", "", "", 0, "")
    return lines
