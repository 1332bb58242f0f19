"""What a run is called and which one a user means."""

from pathlib import Path

import pytest

from kdcache.cache.errors import BadOption, Missing
from kdcache.trainer.folder.home import absolute_spec, cache_label, default_run_name, find_run


def test_ablations_of_one_cache_have_names_of_their_own() -> None:
    def name(**changed: object) -> str:
        options = {"student": "r18", "loss": "kd", "fresh": False, "online": False, "seed": 0} | changed
        student, loss = str(options.pop("student")), str(options.pop("loss"))
        return default_run_name(student, loss, **options)  # type: ignore[arg-type]

    assert (
        name() == "r18-kd" and name(student="timm:resnet50", loss="cwd(tau=4)") == "timm_resnet50-cwd_tau=4"
    )
    assert name(fresh=True) == "r18-kd-fresh" and name(online=True) == "r18-kd-online"
    assert name(seed=3, online=True, fresh=True) == "r18-kd-online-fresh-seed3"


def test_data_are_remembered_by_their_absolute_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_spec("camvid:data") == f"camvid:{tmp_path.resolve() / 'data'}"
    assert absolute_spec("demo") == "demo"
    with pytest.raises(BadOption, match="no folder in 'camvid:'"):
        absolute_spec("camvid:")


def test_a_cache_under_the_home_is_remembered_by_its_name_so_that_the_home_may_move(tmp_path: Path) -> None:
    inside, outside = tmp_path / "caches" / "c", tmp_path / "elsewhere" / "c"
    assert cache_label(tmp_path, inside) == "c" and cache_label(tmp_path, outside) == str(outside.resolve())


def test_a_run_is_found_by_path_or_name_and_a_folder_without_options_is_none(tmp_path: Path) -> None:
    for folder in (tmp_path / "runs" / "first", tmp_path / "other"):
        folder.mkdir(parents=True)
        (folder / "config.toml").write_text("")
    (tmp_path / "runs" / "empty").mkdir()
    assert find_run(tmp_path, "first") == tmp_path / "runs" / "first"
    assert find_run(tmp_path, str(tmp_path / "other")) == tmp_path / "other"
    for wrong in ("frist", "empty"):
        with pytest.raises(Missing, match=f"no run '{wrong}'") as error:
            find_run(tmp_path, wrong)
        assert "runs there: first" in error.value.fix
