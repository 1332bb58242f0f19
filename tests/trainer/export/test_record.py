"""What an export says of itself: sealed, and compared with its files before a library reads them."""

from pathlib import Path

import msgspec
import pytest
import torch

from kdcache.cache.errors import BadOption, BadWeights, Missing
from kdcache.cache.grid import DenseGrid
from kdcache.cache.trust import consent
from kdcache.trainer.export.exported import Exported, open_exported
from kdcache.trainer.export.record import RECORD, ExportRecord, digests, read_record, write_record

FIX = "\n  fix:   export the run again into a new folder"


def written(folder: Path, **changes: object) -> ExportRecord:
    folder.mkdir(exist_ok=True)
    (folder / "model.pt2").write_bytes(b"graph")
    record = ExportRecord(
        format=1,
        form="pt2",
        run="r",
        student="ab",
        task="segmentation",
        data="folder:/d",
        class_names=("a", "b"),
        crop=(64, 96),
        outputs=("logits",),
        fixed_px=None,
        least_px=17,
        stride=0,
        grid=DenseGrid(levels=(3,), strides=(8,)).to_dict(),
        difference=1e-6,
        files=dict(digests(folder)),
    )
    record = msgspec.structs.replace(record, **changes)
    write_record(folder, record)
    return record


def refused(folder: Path) -> str:
    with pytest.raises(BadWeights) as caught:
        read_record(folder)
    said = str(caught.value)
    assert f"\n  where: {folder}\n" in said and said.endswith(FIX)
    return said.partition("\n")[0]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    record = written(tmp_path)
    assert read_record(tmp_path) == record
    assert record.dense_grid == DenseGrid(levels=(3,), strides=(8,))


def test_a_folder_that_is_no_export_is_said(tmp_path: Path) -> None:
    with pytest.raises(Missing) as caught:
        read_record(tmp_path)
    assert str(caught.value) == (
        f"no export: there is no export.json\n  where: {tmp_path}\n"
        "  fix:   write one: kdtrain export RUN --to onnx --out DIR"
    )


def test_changed_files_are_refused_before_anything_reads_them(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "model.pt2").write_bytes(b"graph2")
    assert refused(tmp_path).startswith("'model.pt2' is not as it was exported: ")
    (tmp_path / "model.pt2").unlink()
    assert refused(tmp_path).startswith("'model.pt2' is not there")


@pytest.mark.parametrize(
    "change",
    [{"format": 2}, {"grid": {"levels": [3]}}, {"crop": (0, 5)}, {"files": {"../x": "ab"}}, {"outputs": ()}],
)
def test_a_record_that_cannot_be_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    written(tmp_path, **change)
    assert refused(tmp_path).startswith("'export.json' is not as it was written: ")


def test_a_flipped_digit_is_refused(tmp_path: Path) -> None:
    written(tmp_path)
    path = tmp_path / RECORD
    path.write_bytes(path.read_bytes().replace(b"17", b"18"))
    assert "its seal differs" in refused(tmp_path)


def test_a_size_that_it_does_not_take_is_said(tmp_path: Path) -> None:
    free = Exported(tmp_path, written(tmp_path), lambda images: (images,))
    assert list(free(torch.zeros(1, 17, 18, 3))) == ["logits"]
    with pytest.raises(BadOption) as caught:
        free(torch.zeros(1, 16, 18, 3))
    assert str(caught.value) == (
        "the export takes images of at least 17 pixels a side, not of 16x18\n"
        f"  where: {tmp_path}\n"
        "  fix:   judge images of such a size, or the run itself: kdtrain eval r"
    )
    fixed = Exported(tmp_path, written(tmp_path, fixed_px=(20, 30)), lambda images: (images,))
    assert list(fixed(torch.zeros(1, 20, 30, 3))) == ["logits"]
    with pytest.raises(BadOption, match="takes images of 20x30 pixels alone, not of 30x20"):
        fixed(torch.zeros(1, 30, 20, 3))


def test_a_strangers_pt2_is_opened_with_consent_alone(tmp_path: Path) -> None:
    """Its constants may be pickles: torch would run what they say."""
    written(tmp_path)
    with pytest.raises(BadOption) as caught:
        open_exported(tmp_path)
    assert str(caught.value) == (
        "torch reads parts of a .pt2 as Python, so that to open a stranger's may run a stranger's code\n"
        f"  where: {tmp_path}\n"
        "  fix:   if you made it, or trust who did: trust('torch.export') of kdcache.cache.trust"
    )
    command = ["kdtrain", "eval", "--exported", "d"]
    with consent([], command), pytest.raises(BadOption, match="--exported d --trust torch.export"):
        open_exported(tmp_path)
    with consent(["torch.export"]), pytest.raises(BadWeights, match="pt2 does not open it: "):
        open_exported(tmp_path)
