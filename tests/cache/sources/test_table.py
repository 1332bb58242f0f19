"""From the user's 'name:DIR' to a source, or to an error that says what to write."""

import subprocess
import sys
from pathlib import Path

import pytest

from kdcache.cache.errors import BadOption
from kdcache.cache.sources.table import SOURCES, data_word, open_source, splits


@pytest.mark.parametrize(
    ("given", "meant"), [("camvd", "camvid"), ("cityscape", "cityscapes"), ("ade", "ade20k")]
)
def test_an_unknown_dataset_offers_the_nearest(given: str, meant: str) -> None:
    for call in (lambda: open_source(f"{given}:/data", "train"), lambda: splits(f"{given}:/data")):
        with pytest.raises(BadOption) as caught:
            call()
        assert caught.value.what == f"unknown dataset '{given}'"
        assert f"did you mean '{meant}'?" in caught.value.fix
        assert caught.value.where == f"data '{given}:/data'"
        assert all(name in caught.value.fix for name in SOURCES)


@pytest.mark.parametrize(
    ("spec", "word"),
    [("camvid:/a/CamVid", "camvid"), ("demo", "demo"), ("folder:/a/streets/", "folder streets"),
     ("imagefolder:pets.v2", "imagefolder pets.v2"), ("npz:/a/mini.npz", "npz mini"), ("yolo:b", "yolo b"),
     ("pets.data:Pets:/a/dogs", "pets.data:Pets dogs")],
)  # fmt: skip
def test_data_of_which_there_may_be_several_are_called_by_their_folder(spec: str, word: str) -> None:
    assert data_word(spec) == word


@pytest.mark.parametrize("name", sorted(set(SOURCES) - {"demo"}))
def test_a_dataset_without_folder_says_how_to_give_one(name: str) -> None:
    for spec in (name, f"{name}:"):
        with pytest.raises(BadOption, match=f"'{name}' needs a folder") as caught:
            open_source(spec, "train")
        assert caught.value.fix == f"write '{name}:DIR'"


@pytest.mark.parametrize("spec", ["pets.data:Pets", "pets:Pets", "pets.data:make"])
def test_code_without_a_folder_says_to_write_one(spec: str) -> None:
    for call in (lambda: open_source(spec, "train"), lambda: splits(spec)):
        with pytest.raises(BadOption, match="names code of somebody's own, and no folder") as caught:
            call()
        assert caught.value.fix.endswith(f" {spec}:DIR") and caught.value.where == f"data '{spec}'"


def test_a_misspelt_dataset_with_a_folder_is_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Pets").mkdir()
    for spec in ("camvd:Data", "xyz:data", "xyz:Pets", "xyz:/Data", "my.own:some/Folder"):
        with pytest.raises(BadOption, match="unknown dataset"):
            splits(spec)


def test_a_bare_folder_says_to_name_its_dataset(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="a folder without the name of its dataset") as caught:
        open_source(str(tmp_path), "train")
    assert f"write 'folder:{tmp_path}'" in caught.value.fix


def test_name_and_root_of_a_source_open_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    for name in ("train/images/a.png", "train/labels/a.png"):
        (tmp_path / "my:data" / name).parent.mkdir(parents=True)
        Image.new("L", (8, 6)).save(tmp_path / "my:data" / name)
    (tmp_path / "my:data/classes.txt").write_text("road")
    monkeypatch.chdir(tmp_path)
    source = open_source("folder:my:data", "train")  # relative, and with a colon of its own
    assert source.root == tmp_path / "my:data"
    monkeypatch.chdir("/")
    assert open_source(f"{source.name}:{source.root}", "train").describe() == source.describe()


def test_importing_all_sources_stays_light() -> None:
    code = (
        "import sys, kdcache.cache.sources.table;"
        "heavy = {'torch', 'torchvision', 'timm', 'nvidia', 'zarr', 'webdataset'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
