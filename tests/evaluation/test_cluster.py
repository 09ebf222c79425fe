"""A Dask cluster of two worker processes: what dies is made up for, and nothing is lost."""

from __future__ import annotations

import random

import pytest

from mxbench.errors import MxbenchError
from mxbench.evaluation import fence, setting
from mxbench.evaluation.board import Policy
from mxbench.evaluation.messages import Work

from . import synthetic as syn
from .load import Processes, evaluate, places

pytest.importorskip("distributed")


@pytest.fixture
def processes(tmp_path):
    made = []

    def make(**counts):
        made.append(Processes(tmp_path, **counts))
        return made[0]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def here(tmp_path):
    return syn.contest(tmp_path)


def start(cluster):
    return setting.executor(str(cluster.file), "cuda", None, syn.STUB, fenced=False)


def test_deaths_and_a_scheduler_s_restart_lose_nothing_and_change_no_rank(
    processes, here, tmp_path
):
    """A hand-in that kills its workers, one that hangs, one killed worker, one new scheduler."""
    for number in range(8):
        path = tmp_path / "subs" / f"good-{number}.zip"
        syn.pack(path, here, "good", 1.0 + number / 10, seconds=0.2)
    for kind in ("killing", "hanging", "crashing", "malformed"):
        syn.pack(tmp_path / "subs" / f"{kind}.zip", here, kind)
    cluster = processes(workers=2)
    rng, todo = random.Random(3), {4: cluster.kill_one, 8: None}

    def tick(loop):
        done = len(loop.results)
        if 4 in todo and done >= 4:
            todo.pop(4)(rng)
        if 8 in todo and done >= 8:
            todo.pop(8)
            cluster.restart_scheduler()
        cluster.tend()

    loop, wish, here, _ = evaluate(
        tmp_path, tmp_path / "out", start(cluster), tick, limit=1.5, fenced=False,
        policy=Policy(strikes=3, losses=9),
    )  # fmt: skip
    assert not todo and cluster.kills == 1
    statuses = {work.hand_in: line.status for work, line in loop.results.items()}
    assert {name: s for name, s in statuses.items() if s != "finished"} == {
        "killing": "died", "hanging": "time limit", "crashing": "died", "malformed": "malformed",
    }  # fmt: skip
    ranked = [name for name, rank, _, _ in sorted(places(loop, wish, here), key=str) if rank]
    assert ranked == [f"good-{n}" for n in range(8)]
    order = sorted((rank, name) for name, rank, _, _ in places(loop, wish, here) if rank)
    assert [name for _, name in order] == ranked


@pytest.mark.skipif(not fence.available(), reason="no user namespaces here")
def test_behind_a_fence_killed_workers_convict_nobody(processes, here, tmp_path):
    """The only hand-in loses its worker as often as a killer would need for its strikes."""
    syn.pack(tmp_path / "subs" / "good.zip", here, "good", seconds=2.0)
    cluster, rng, at = processes(workers=1), random.Random(1), []

    def tick(loop):
        tries = [line for line in loop.ledger.entries if line.kind == "start"]
        if len(tries) > len(at) and len(at) < Policy().strikes:
            at.append(len(tries))
            cluster.kill_one(rng)
        cluster.tend()

    executor = setting.executor(str(cluster.file), "cuda", None, syn.STUB)
    loop, *_ = evaluate(tmp_path, tmp_path / "out", executor, tick, limit=20.0)
    assert loop.results[Work("good", "mla")].status == "finished"
    kinds = [line.kind for line in loop.ledger.entries if line.kind in ("strike", "loss")]
    assert kinds == ["loss"] * Policy().strikes == ["loss"] * cluster.kills


def test_a_worker_without_a_gpu_compiles_for_one_with(processes, here, tmp_path):
    for number in range(4):
        syn.pack(tmp_path / "subs" / f"good-{number}.zip", here, "good", seconds=0.5)
    cluster = processes(workers=1, compiling=1)
    cluster.await_workers()
    executor = start(cluster)
    loop, *_ = evaluate(tmp_path, tmp_path / "out", executor, patience=30.0, fenced=False)
    assert all(line.status == "finished" for line in loop.results.values())
    assert any(line.reason == "compiled elsewhere" for line in loop.results.values())
    assert not list((tmp_path / "out" / ".compiled").iterdir())
    loads = {load.model: load for load in loop.snapshot().loads}
    assert loads["compiles"].served == 0 and sum(load.served for load in loads.values()) == 4
    assert loop.results[Work("good-0", "mla")].machine.startswith("machine-")


def test_no_scheduler_there_is_one_clear_message(monkeypatch):
    monkeypatch.setattr("mxbench.evaluation.cluster.CONNECT_LIMIT", 1.0)
    with pytest.raises(MxbenchError, match="no Dask scheduler answers") as caught:
        setting.executor("tcp://127.0.0.1:9", "cuda", None)
    assert caught.value.exit_code == 3
