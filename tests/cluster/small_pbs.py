"""A qsub and a qstat over a folder: real programs, small enough to be made slow, wrong or silent on purpose.

    small_pbs.py FOLDER qsub -f -v A=b,C=d SCRIPT        small_pbs.py FOLDER qstat …

FOLDER/control.json may say: qsub_before_s, qsub_after_s (sleep before and after the job is queued), qsub_status,
qsub_errors, qsub_output, qstat_status, qstat_output, qstat_errors, qstat_s.
"""

import json
import os
import sys
import time


def main() -> int:
    folder, program, arguments = sys.argv[1], sys.argv[2], sys.argv[3:]
    try:
        with open(os.path.join(folder, "control.json")) as file:
            control = json.load(file)
    except FileNotFoundError:
        control = {}
    with open(os.path.join(folder, "calls"), "a") as calls:
        calls.write(program + "\n")
    return qsub(folder, control, arguments) if program == "qsub" else qstat(folder, control)


def qsub(folder: str, control: "dict[str, object]", arguments: "list[str]") -> int:
    assert arguments[:2] == ["-f", "-v"], arguments
    variables = dict(pair.split("=", 1) for pair in arguments[2].split(","))
    with open(arguments[3]) as script:
        assert script.read().startswith("#!"), "the script must be whole before it is submitted"
    time.sleep(float(str(control.get("qsub_before_s", 0))))
    sys.stderr.write(str(control.get("qsub_errors", "")))
    if control.get("qsub_status"):
        return int(str(control["qsub_status"]))
    job = {"Job_Name": "x", "job_state": "Q", "queue": "workq", "substate": 10, "Variable_List": variables}
    draft = os.path.join(folder, f"{os.getpid()}.draft")
    with open(draft, "w") as file:
        json.dump(job, file)
    number = 1
    while True:
        try:
            os.link(draft, os.path.join(folder, f"{number}.job"))
            break
        except FileExistsError:
            number += 1
    os.unlink(draft)
    time.sleep(float(str(control.get("qsub_after_s", 0))))
    sys.stdout.write(str(control.get("qsub_output", f"{number}.small\n")))
    return 0


def qstat(folder: str, control: "dict[str, object]") -> int:
    time.sleep(float(str(control.get("qstat_s", 0))))
    sys.stderr.write(str(control.get("qstat_errors", "")))
    if "qstat_output" in control:
        sys.stdout.write(str(control["qstat_output"]))
        return int(str(control.get("qstat_status", 0)))
    jobs = {}
    for name in os.listdir(folder):
        if name.endswith(".job"):
            with open(os.path.join(folder, name)) as file:
                jobs[name[: -len(".job")] + ".small"] = json.load(file)
    table = {"timestamp": 1795478907, "pbs_version": "23.06.06", "pbs_server": "small"}
    sys.stdout.write(json.dumps(dict(table, Jobs=jobs) if jobs else table))
    return int(str(control.get("qstat_status", 0)))


if __name__ == "__main__":
    sys.exit(main())
