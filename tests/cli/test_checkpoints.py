"""`reconcile checkpoints` as a person meets it: attempts, folders made elsewhere, and what is wrong with either."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path
from textwrap import dedent

import pytest
from click.testing import CliRunner, Result

from reconciler.cli import checkpoints as command
from reconciler.cli.human import checkpoints as view
from reconciler.cli.screen import Screen
from reconciler.domain.foldername import of_path
from reconciler.model.observed import CheckpointSeen, FolderAbsent, FolderSeen, Inside, LegSeen, Unread
from reconciler.planner.index import index
from tests.cli.test_ledger import repository as repository
from tests.cluster.test_agent_folders import save
from tests.cluster.world import World as Cluster
from tests.planner.world import SAME, World, after

LEGACY = "/flare/checkpoints/ws1536_ds_stage1_nl32_hs4096_mb4_seq4096_gb6144_sp1_pp1_tp1_bf16_optadamw_lr_lwf_flash"


def shown(world: World, stage: str | None = None, width: int = 150) -> str:
    seen = world.look()
    assert not isinstance(seen.attempts, Unread)
    screen = Screen(file=StringIO(), width=width, highlight=False)
    screen.print(view.render(index(world.desired, seen.attempts, {**seen.folders, **world.folders}, stage)))
    assert isinstance(screen.file, StringIO)
    return "\n".join(line.rstrip() for line in screen.file.getvalue().splitlines())


def test_attempts_leg_by_leg_and_what_names_each() -> None:
    world = after(1)
    world.carry_out(SAME)
    (first, *_) = world.attempts
    seen = world.attempts[first]
    cut = CheckpointSeen(1200, False, "1 optimizer shards, 2 are needed", 1, 20_000_000)
    whole = CheckpointSeen(100, True, "", 1, 40_000_000, inside=Inside(rate=5e-4))
    legs = (LegSeen(0, (whole, cut, *seen.legs[0].checkpoints), latest=1200, tracker=1954),)
    world.attempts[first] = replace(seen, legs=legs)
    text = shown(world)
    assert text.replace(first[1], "0123456789ab").split("\n\n")[0] == dedent("""\
        quickstart/stage-1/0123456789ab/leg-0  stage-1, pretrain
          iteration  tokens      LR  schedule     DP×TP×PP  precision  optimizer   size
                100    205k  0.0005  warming up   1×1×1     bf16       adamw      40 MB
              1,200   2.46M   0.002  at its peak  1×1×1     bf16       adamw      20 MB  incomplete: 1 optimizer shards, 2 are needed; latest
              1,954      4M   0.002  at its peak  1×1×1     bf16       adamw       10 B  source of stage-2; end of leg 0
          ! latest names iteration 1200, which is incomplete: 1 optimizer shards, 2 are needed
          ! iteration 100: its rate is 0.0005 inside, 0.00102 by its recipe""")  # noqa: E501
    assert text.splitlines()[-1] == "3 checkpoints, 60 MB; 1 incomplete, 20 MB"
    assert shown(world, "stage-2") == shown(world, "stage-2").replace("stage-1", "stage-2")


def test_a_folder_made_elsewhere_and_what_its_name_tells() -> None:
    inside = Inside(
        layers=32, hidden=4096, micro_batch=4, sequence_length=4096, global_batch=3072, tensor=1, pipeline=1,
        data_parallel=1536, precision="bf16", optimizer="adamw", rate=0.0, rate_max=2e-4, rate_min=0.0,
        tokens=2 * 10**12,
    )  # fmt: skip
    copy = CheckpointSeen(158945, True, "", 0, 84_000_000_000, 1, universal=True, inside=inside)
    cut = CheckpointSeen(158945, False, "767 optimizer shards, 768 are needed", 767, 97_000_000_000, 1)
    world = replace(after(0), folders={LEGACY: FolderSeen((cut, copy), latest_universal=158945)})
    assert shown(world) == dedent(f"""\
        {LEGACY}
          told by the name: 32 layers of 4096, sequences of 4096, batch 6144, 1536 ranks as 1536 × 1 × 1, bf16, adamw
          iteration  tokens  LR  schedule   DP×TP×PP   precision  optimizer   size
            158,945       -   -  -          767×-×-    -          -          97 GB  incomplete: 767 optimizer shards, 768 are needed
            158,945      2T   0  converged  universal  bf16       adamw      84 GB  latest_universal
          ! iteration 158945: global batch 6144 by its name, 3072 inside

        2 checkpoints, 181 GB; 1 incomplete, 97 GB""")  # noqa: E501


def test_where_there_is_nothing_or_nothing_could_be_read() -> None:
    assert shown(after(0)) == "There is no checkpoint yet."
    assert shown(replace(after(0), folders={"/old/run": FolderAbsent()})) == dedent("""\
        /old/run
          made elsewhere
          not looked into: there is no such folder

        0 checkpoints, 0 B""")


def test_a_terminal_that_is_narrow_leaves_the_least_out() -> None:
    world = after(1)
    assert "optimizer" not in shown(world, width=70)
    assert "0.002  at its peak  1×1×1" in shown(world, width=70)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (
            "/a/ws768_ds_stage1_nl32_hs4096_mb1_seq4096_gb3072_sp1_pp1_tp1_bf16_optadamw_lr_lwf_flash",
            "32 layers of 4096, sequences of 4096, batch 3072, 768 ranks as 768 × 1 × 1, bf16, adamw",
        ),
        (
            "/a/AuroraGPT-2B-ws3072-ds-stage1-nl12-hs2048-mb1-seq8192-gb6144-sp1-pp2-tp4-bf16-optsophiag-lr2e-4/x",
            "12 layers of 2048, sequences of 8192, batch 6144, 3072 ranks as 384 × 4 × 2, bf16, sophiag",
        ),
        ("/a/base-run", None),
    ],
)
def test_a_folder_s_name_is_read(path: str, told: str | None) -> None:
    found = of_path(path)
    assert (found.told() if found is not None else None) == told


# --- the command


def run(monkeypatch: pytest.MonkeyPatch, cluster: Cluster, *arguments: str) -> Result:
    monkeypatch.setattr(command, "connect", lambda opened: cluster.link)
    return CliRunner().invoke(command.checkpoints, list(arguments), standalone_mode=False)


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    (tmp_path / "cluster").mkdir()
    return Cluster(tmp_path / "cluster").build()


def test_any_folder_of_the_cluster_by_its_path(
    monkeypatch: pytest.MonkeyPatch, repository: Path, cluster: Cluster
) -> None:
    for step in (50, 150):
        save(cluster.top / "run", step)
    told = run(monkeypatch, cluster, str(cluster.top / "run"))
    assert told.exit_code == 0, told.output
    assert "  50    3.2k   0.001  at its peak  2×-×-" in told.output
    assert "  150    9.6k  0.0005  decaying     2×-×-" in told.output
    as_json = json.loads(run(monkeypatch, cluster, str(cluster.top / "run"), "--json").output)
    assert [entry["iteration"] for entry in as_json["folders"][0]["entries"]] == [50, 150]
    assert [entry["named_by"] for entry in as_json["folders"][0]["entries"]] == [[], ["latest"]]


def test_a_path_that_is_not_there_and_a_stage_that_is_none(
    monkeypatch: pytest.MonkeyPatch, repository: Path, cluster: Cluster
) -> None:
    told = run(monkeypatch, cluster, "/not/there")
    assert (told.return_value, "not looked into: there is no such folder" in told.output) == (1, True)
    told = run(monkeypatch, cluster, "stage1")
    assert told.exit_code == 1
    assert "Did you mean stage-1?" in told.output


def test_the_name_of_a_campaign_alone_shows_all_of_it(
    monkeypatch: pytest.MonkeyPatch, repository: Path, cluster: Cluster
) -> None:
    alone, plain = run(monkeypatch, cluster, "quickstart"), run(monkeypatch, cluster)
    assert "no stage" not in alone.output
    assert (alone.exit_code, alone.output) == (plain.exit_code, plain.output)
