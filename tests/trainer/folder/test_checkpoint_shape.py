"""A checkpoint of another shape than a run's is refused in three parts, whatever its digests say."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kdcache.cache.errors import BadWeights
from kdcache.cache.networks.run_card import file_digest
from kdcache.trainer.folder.checkpoint import load_latest, save_checkpoint
from kdcache.trainer.folder.checkpoint_shape import fitting

PROGRESS = {"best": {"step": 3, "miou": 0.5}, "last": {}}


def saved(run_dir: Path, *, state: object = None, progress: object = PROGRESS) -> Path:
    """A checkpoint whose digests fit, with this state and these values."""
    states = {"distiller": {"w": torch.ones(3)}}
    folder = save_checkpoint(run_dir, step=1, states=states, progress=PROGRESS)
    if state is not None:
        torch.save(state, folder / "distiller.pt")
    (folder / "progress.json").write_text(json.dumps(progress))
    digests = {name: file_digest(folder / name) for name in ("distiller.pt", "progress.json")}
    (folder / "digests.json").write_text(json.dumps(digests))
    return folder


def test_an_honest_one_comes_back(tmp_path: Path) -> None:
    saved(tmp_path)
    latest = load_latest(tmp_path)
    assert latest is not None and latest.progress == PROGRESS and set(latest.states) == {"distiller"}


@pytest.mark.parametrize(
    ("state", "said"), [({}, "holds an empty state"), ([1], "holds a list, not a state")]
)
def test_a_state_that_is_none_is_refused(tmp_path: Path, state: object, said: str) -> None:
    folder = saved(tmp_path, state=state)
    with pytest.raises(BadWeights, match=f"'distiller.pt' {said}") as caught:
        load_latest(tmp_path)
    assert caught.value.where == str(folder / "distiller.pt") and "--resume again" in caught.value.fix


@pytest.mark.parametrize(
    "progress",
    [[], 3, None, {"best": 3, "last": {}}, {"best": None, "last": []}, {"best": {"a": "b"}, "last": {}}],
)
def test_progress_of_other_types_is_refused(tmp_path: Path, progress: object) -> None:
    saved(tmp_path, progress=progress)
    with pytest.raises(BadWeights, match="'progress.json' cannot be read"):
        load_latest(tmp_path)


@pytest.mark.parametrize(
    "change",
    [lambda d: d.update({"../../x": "0"}), lambda d: d.update({"a": 3}), lambda d: d.update({"a": [[[]]]})],
)
def test_digests_name_files_of_the_checkpoint_alone(tmp_path: Path, change: Callable[[Any], object]) -> None:
    folder = saved(tmp_path)
    digests = json.loads((folder / "digests.json").read_text())
    change(digests)
    (folder / "digests.json").write_text(json.dumps(digests))
    with pytest.raises(BadWeights, match="'digests.json' cannot be read"):
        load_latest(tmp_path)


def test_a_state_of_another_network_names_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(BadWeights, match="'step-00000001' is not of this run: RuntimeError") as caught:
        with fitting(tmp_path / "step-00000001"):
            torch.nn.Linear(2, 3).load_state_dict({"weight": torch.ones(9, 9)})
    assert caught.value.where == str(tmp_path / "step-00000001")


def test_an_error_in_three_parts_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(BadWeights, match="^other"), fitting(tmp_path):
        raise BadWeights("other", where="there", fix="that")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["distiller.pt", "progress.json"])
def test_no_digest_is_taken_of_a_terabyte_of_holes(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path) / name
    os.truncate(path, 1 << 40)
    with pytest.raises(BadWeights, match=f"'{name}' cannot be read: of its 1099511627776 bytes") as caught:
        load_latest(tmp_path)
    assert caught.value.where == str(path) and "--resume again" in caught.value.fix
