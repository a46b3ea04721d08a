"""A run that somebody made by hand, with the real trainer and the launcher alone: adopted, and gone on from."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.campaign import Repository, make

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

SCRIPT = """\
#!/bin/bash
#PBS -N by-hand
#PBS -q workq
#PBS -l select=1
#PBS -l walltime=00:10:00
cd {top}/launcher
source environment.sh
export SAVE={top}/launcher/checkpoints/by-hand CKPT_DIR={top}/launcher/checkpoints/by-hand
export MODEL_ARCH=7B NLAYERS=2 HIDDEN=64 HEADS=4 NUM_KV_HEAD=4 FFN_HIDDEN_SIZE=176 SEQ=128 ROPE_THETA=10000
export MICRO_BATCH=4 GRAD_ACC_STEPS=4 GLOBAL_BATCH=16 TRAIN_ITERS=40 SAVE_INTERVAL=100 EVAL_INTERVAL=1000
export LR=0.002 LR_DECAY_STYLE=constant LR_WARMUP_FRAC=0.1 OVERRIDE_CKPT_OPT_PARAM=1
export TOKENIZER_TYPE=ByteTokenizer TOKENIZER_MODEL=bytes DATA_FILE_LIST={top}/data/D0.txt OMP_NUM_THREADS=1
bash train_alcf.sh --override-opt_param-scheduler
"""
NEXT = """\
apiVersion: cpt/v1
kind: Stage
metadata: {name: more}
spec:
  campaign: old
  dataset: old-d0
  tokens: 40k
  source: {stage: stage-1, checkpoint: pre-cooldown}
  strategies:
    - name: further
      legs: [{mixture: {D0: 1}, lr: {shape: constant}}]
  resources: {nodes: 2, walltime: 1m}
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository that knows the cluster, on which a run was made by qsub and a script alone."""
    made = make(tmp_path_factory.mktemp("by-hand") / "repository")
    for file in (made.root / "manifests").iterdir():
        if file.name != "cluster.yaml":
            file.unlink()
    top = made.root / ".local" / "quickstart"
    script = top / "launcher" / "by-hand.pbs"
    script.write_text(SCRIPT.format(top=top))
    subprocess.run([made.spool_bin / "qsub", script], cwd=top / "launcher", check=True, capture_output=True)
    deadline = time.monotonic() + 600
    while any(job["job_state"] != "F" for job in made.jobs().values()):
        assert time.monotonic() < deadline, "the run by hand did not end"
        time.sleep(0.5)
    return made


def test_it_is_adopted_with_an_empty_first_plan_and_the_next_stage_goes_on_from_it(repository: Repository) -> None:
    top = repository.root / ".local" / "quickstart"
    folder = top / "launcher" / "checkpoints" / "by-hand"
    kept = {path: path.stat().st_mtime for path in folder.rglob("*")}
    told = repository.run("adopt", str(folder), "--cluster", "local", "-o", "manifests/old")
    assert "iteration 40" in told
    stages = (repository.root / "manifests" / "old" / "stages.yaml").read_text()
    assert "warmup: 10%" in stages
    assert "by-hand.pbs" in stages, "the script was found by the job that ran it"
    repository.run("validate")
    repository.git("add", ".")
    repository.git("commit", "-q", "-m", "Adopt a run")
    assert "Nothing to do: all stages are done." in repository.run("plan", "old", "--detailed-exitcode")

    _add_a_stage(repository, top)
    done = repository.run("apply", "old", "--until-done", "--yes", timeout_s=1200)
    assert "All 2 stages of old are done." in done
    assert repository.status()["more"]["phase"] == "Done"
    keys = [job["Variable_List"].get("CPT_KEY", "") for job in repository.jobs().values()]
    assert any(key.endswith("/convert") for key in keys), "two ranks go on from what one has saved"
    assert {path: path.stat().st_mtime for path in folder.rglob("*")} == kept, "what was adopted is only read"


def _add_a_stage(repository: Repository, top: Path) -> None:
    """Hold something out, as the TODO says, and go on."""
    held_out = top / "workspace" / "validation" / "old"
    held_out.mkdir(parents=True)
    shutil.copy(top / "data" / "val-D0.txt", held_out / "D0.txt")
    old = repository.root / "manifests" / "old"
    (old / "more.yaml").write_text(NEXT)
    campaign = (old / "campaign.yaml").read_text()
    (old / "campaign.yaml").write_text(campaign.replace("[stage-1]", "[stage-1, more]"))
    model = (old / "model.yaml").read_text()
    (old / "model.yaml").write_text(model.replace("samples: 1024", "samples: 64"))
    repository.git("add", ".")
    repository.git("commit", "-q", "-m", "Go on from it")
