"""What cannot be judged is found before a step is made, not after the last one."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from rank_judging import folder_to_judge
from tiny_folder import draw_folder

from kdcache.cache.errors import BadSample
from kdcache.cache.sources.table import open_source
from kdcache.trainer.assemble import _validation
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.judge.readable import check_readable
from kdcache.trainer.ranks import ranks_of, start_accelerator

COUNT = 40
LAST = f"scene{COUNT - 1:02d}"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = draw_folder(tmp_path_factory.mktemp("val"), count=COUNT, split="val")
    return draw_folder(root, count=2)


def no_image(val: Path) -> Path:
    path = val / "images" / "scene11.jpg"  # none of those that are decoded
    path.write_text("no image")
    return path


def no_label(val: Path) -> Path:
    path = val / "labels" / "scene11.png"
    path.unlink()
    return path


def other_size(val: Path) -> Path:
    path = val / "labels" / f"{LAST}.png"
    Image.open(path).resize((9, 9)).save(path)
    return path


def other_class(val: Path) -> Path:
    path = val / "labels" / "scene00.png"
    Image.new("L", (100, 75), 7).save(path)
    return path


@pytest.mark.parametrize("damage", [no_image, no_label, other_size, other_class])
def test_a_run_is_refused_before_its_first_step(drawn: Path, damage: Callable[[Path], Path]) -> None:
    """On the rank whose share it is."""
    config = TrainConfig(run="r", device="cpu", log="none")
    ranks = ranks_of(start_accelerator(config, drawn, start=0))
    assert _validation(folder_to_judge(drawn), ranks, config)[0] is not None
    content = {path: path.read_bytes() for path in drawn.rglob("val/*/*")}
    path = damage(drawn / "val")
    try:
        with pytest.raises(BadSample) as error:
            _validation(folder_to_judge(drawn), ranks, config)
        assert path.stem in str(error.value)
        source, refused = open_source(f"folder:{drawn}", "val"), []
        for rank in range(2):
            try:
                check_readable(source, rank=rank, world=2)
            except BadSample:
                refused.append(rank)
        assert len(refused) == 1
    finally:
        for file, bytes_before in content.items():
            file.write_bytes(bytes_before)
