"""The links of a chain: names of their runs, how far each is, and the cache that teaches the next."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kdcache.cache.errors import BadOption, Missing
from kdcache.trainer import chain
from kdcache.trainer.chain import Link, cache_of, read_links, state_of
from kdcache.trainer.config import TrainConfig, write_config

LINK = Link("r18", None, "chain-r18-none")
GIVEN: Mapping[str, Any] = {"data": "folder:/d", "steps": 4}


def test_a_link_is_named_after_all_before_it_so_that_chains_with_one_beginning_share_it() -> None:
    links = read_links(["r101@30", "r50", "r18"], prefix="chain", loss="kd", seed=0)
    runs = ["chain-r101@30-none", "chain-r101@30-r50-kd", "chain-r101@30-r50-r18-kd"]
    assert [link.run for link in links] == runs
    assert [(link.network, link.epochs) for link in links] == [("r101", 30.0), ("r50", None), ("r18", None)]
    other = read_links(["r101@30", "r50", "r34"], prefix="chain", loss="kd", seed=0)
    assert [link.run for link in other[:2]] == runs[:2] and other[2].run not in runs
    assert read_links(["a", "b"], prefix="c", loss="kd", seed=2)[0].run == "c-a-none-seed2"


@pytest.mark.parametrize(("done", "state"), [(None, "begun"), (3.0, "begun"), (4.0, "finished")])
def test_a_link_is_finished_when_its_card_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: float | None, state: str
) -> None:
    assert state_of(tmp_path, LINK, GIVEN) == "new"
    run_dir = tmp_path / "runs" / LINK.run
    run_dir.mkdir(parents=True)
    write_config(run_dir, TrainConfig(run=LINK.run, **GIVEN), {})
    assert state_of(tmp_path, LINK, GIVEN) == "begun"
    (run_dir / "network.json").write_text("")
    metrics = {} if done is None else {"final/step": done}
    monkeypatch.setattr(chain, "read_run_card", lambda folder: SimpleNamespace(metrics=metrics))
    assert state_of(tmp_path, LINK, GIVEN) == state
    with pytest.raises(BadOption, match="--steps 5 differs from 4"):
        state_of(tmp_path, LINK, {**GIVEN, "steps": 5})


def test_the_next_link_is_taught_by_the_newest_cache_of_these_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifests = {
        "old": (LINK.run, "w"),
        "new": (LINK.run, "w"),
        "worse": (LINK.run, "v"),
        "x": ("other", "w"),
    }
    for age, name in enumerate(manifests):
        folder = tmp_path / "caches" / name
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("")
        os.utime(folder, (1000 + age, 1000 + age))

    def manifest_of(root: Path) -> SimpleNamespace:
        teacher, weights = manifests[root.name]
        return SimpleNamespace(teacher_origin=teacher, identity={"weights": weights})

    monkeypatch.setattr(chain, "read_manifest", manifest_of)
    monkeypatch.setattr(chain, "load_run_network", lambda run_dir: run_dir.name)
    monkeypatch.setattr(chain, "weights_digest", lambda network: "w" if network == LINK.run else "?")
    assert cache_of(tmp_path, LINK).name == "new"
    with pytest.raises(Missing, match="no cache of run 'another'"):
        cache_of(tmp_path, LINK._replace(run="another"))
