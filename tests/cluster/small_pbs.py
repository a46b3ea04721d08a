"""qsub, qselect and qstat over a folder: real programs, small enough to be made slow, wrong or silent on purpose.

    small_pbs.py FOLDER qsub -f -v A=b,C=d SCRIPT
    small_pbs.py FOLDER qselect [-x] -u USER
    small_pbs.py FOLDER qstat [-x] -f [-F json] ID…      of several, JSON has only the first, as OpenPBS 23.06 prints it

FOLDER/control.json may say: qsub_before_s, qsub_after_s (sleep before and after the job is queued), qsub_status,
qsub_errors, qsub_output; qselect_status, qselect_output, qselect_errors; qstat_s, qstat_status, qstat_errors,
qstat_output (instead of JSON), qstat_text (instead of the plain form), qstat_runs (a shell command, after it has
looked and before it answers); history (false: ended jobs are forgotten at once); hides (true: no job is listed).
"""

import json
import os
import subprocess
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
        calls.write(" ".join([program, *arguments]) + "\n")
    return {"qsub": qsub, "qselect": qselect, "qstat": qstat}[program](folder, control, arguments)


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


def listed(folder: str, control: "dict[str, object]", history: bool) -> "dict[str, dict[str, object]]":
    jobs = {}
    for name in sorted(os.listdir(folder)) if not control.get("hides") else ():
        if name.endswith(".job"):
            with open(os.path.join(folder, name)) as file:
                jobs[name[: -len(".job")] + ".small"] = json.load(file)
    kept = history and control.get("history", True)
    return {job_id: job for job_id, job in jobs.items() if kept or job["job_state"] != "F"}


def no_history(program: str, control: "dict[str, object]", arguments: "list[str]") -> bool:
    refused = "-x" in arguments and not control.get("history", True)
    if refused:
        sys.stderr.write(f"{program}: PBS is not configured to maintain job history\n")
    return refused


def qselect(folder: str, control: "dict[str, object]", arguments: "list[str]") -> int:
    assert arguments[-2] == "-u", arguments
    sys.stderr.write(str(control.get("qselect_errors", "")))
    jobs = {} if no_history("qselect", control, arguments) else listed(folder, control, "-x" in arguments)
    sys.stdout.write(str(control.get("qselect_output", "".join(f"{job_id}\n" for job_id in jobs))))
    return int(str(control.get("qselect_status", 0)))


def qstat(folder: str, control: "dict[str, object]", arguments: "list[str]") -> int:
    time.sleep(float(str(control.get("qstat_s", 0))))
    asked = [word for word in arguments if word[0].isdigit()]
    form = "json" if "json" in arguments else "text"
    assert asked, "nobody may ask for every job of a server"
    everything, shown = listed(folder, control, True), listed(folder, control, "-x" in arguments)
    # Without history an ended job is as unknown as one that never was.
    if "qstat_runs" in control:
        subprocess.run(["sh", "-c", str(control["qstat_runs"])], check=True)
    status = 0
    if no_history("qstat", control, arguments):
        asked, shown = [], {}
    for job_id in asked:
        if job_id not in everything:
            sys.stderr.write(f"qstat: Unknown Job Id {job_id}\n")
            status = 153
        elif job_id not in shown:
            sys.stderr.write(f"qstat: {job_id} Job has finished, use -x or -H to obtain historical job information\n")
            status = 35
    sys.stderr.write(str(control.get("qstat_errors", "")))
    found = {job_id: shown[job_id] for job_id in asked if job_id in shown}
    printed = as_json(found) if form == "json" else as_text(found)
    sys.stdout.write(str(control.get("qstat_output" if form == "json" else "qstat_text", printed)))
    return int(str(control.get("qstat_status", status)))


def as_json(jobs: "dict[str, dict[str, object]]") -> str:
    table = {"timestamp": 1795478907, "pbs_version": "23.06.06", "pbs_server": "small"}
    first = dict(list(jobs.items())[:1])
    return json.dumps(dict(table, Jobs=first) if first else table)


def as_text(jobs: "dict[str, dict[str, object]]") -> str:
    text = ""
    for job_id, job in jobs.items():
        variables = ",\n\t".join(f"{name}={value}" for name, value in dict(job["Variable_List"]).items())  # type: ignore[call-overload]
        shown = {name: value for name, value in job.items() if name != "Variable_List"}
        lines = [f"    {name} = {value}" for name, value in (*shown.items(), ("Variable_List", variables))]
        text += "\n".join([f"Job Id: {job_id}", *lines, "", ""])
    return text


if __name__ == "__main__":
    sys.exit(main())
