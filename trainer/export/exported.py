"""An export as judges ask it: uint8 images in, taps out, whatever form it has.

A library's network gets here what its folder says of normalisation, and the padding to its stride; a graph
has both inside. Everything runs on the CPU.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from kdcache.cache.errors import BadOption, BadWeights, KdError
from kdcache.cache.networks.families.library_form import InLibrary, open_smp, open_timm
from kdcache.cache.networks.normalise import Normalise, pad_to_multiple
from kdcache.cache.spec import ceil_div
from kdcache.cache.trust import OPTION, command_with, is_trusted
from kdcache.trainer.export.graphs import Run, open_onnx, open_pt2
from kdcache.trainer.export.record import ExportRecord, read_record

TORCH_EXPORT = "torch.export"  # what `--trust` names for it
RUNS_CODE = ("pt2",)  # forms whose files are more than numbers and operators
_GRAPHS: Mapping[str, Callable[[Path], Run]] = {"onnx": open_onnx, "pt2": open_pt2}
_LIBRARIES: Mapping[str, Callable[[Path], InLibrary]] = {"timm": open_timm, "smp": open_smp}


class Exported:
    """Answers as a network does; `grid` is a detector's."""

    def __init__(
        self, folder: Path, record: ExportRecord, run: Callable[[Tensor], tuple[Tensor, ...]]
    ) -> None:
        self.folder = folder
        self.record = record
        self.grid = record.dense_grid
        self.taps = record.outputs
        self._run = run

    @torch.no_grad()
    def __call__(self, images_BHWC: Tensor) -> dict[str, Tensor]:
        """Images (B, H, W, 3) uint8. Raises BadOption for a size that it does not take."""
        self._check_size((images_BHWC.shape[1], images_BHWC.shape[2]))
        return dict(zip(self.taps, self._run(images_BHWC.cpu()), strict=True))

    def _check_size(self, size: tuple[int, int]) -> None:
        fixed, least = self.record.fixed_px, self.record.least_px
        if (fixed is None and min(size) >= least) or size == fixed:
            return
        takes = f"at least {least} pixels a side" if fixed is None else f"{fixed[0]}x{fixed[1]} pixels alone"
        raise BadOption(
            f"the export takes images of {takes}, not of {size[0]}x{size[1]}",
            where=str(self.folder),
            fix=f"judge images of such a size, or the run itself: kdtrain eval {self.record.run}",
        )


def open_exported(folder: Path) -> Exported:
    """Raises Missing, BadWeights and BadOption as `read_record`, BadWeights for what no library opens, and
    BadOption for a file that may hold code and that nobody trusts."""
    record = read_record(folder)
    if record.form in RUNS_CODE and not is_trusted(TORCH_EXPORT):
        again = command_with(OPTION, TORCH_EXPORT) or f"trust({TORCH_EXPORT!r}) of kdcache.cache.trust"
        raise BadOption(
            "torch reads parts of a .pt2 as Python, so that to open a stranger's may run a stranger's code",
            where=str(folder),
            fix=f"if you made it, or trust who did: {again}",
        )
    return Exported(folder, record, open_form(folder, record.form, record.stride))


def judge_words(form: str, folder: str) -> list[str]:
    """The command that judges an export which its maker trusts."""
    words = ["kdtrain", "eval", "--exported", folder]
    return [*words, OPTION, TORCH_EXPORT] if form in RUNS_CODE else words


def open_form(folder: Path, form: str, stride: int) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """Images (B, H, W, 3) uint8 -> its outputs. Raises BadWeights."""
    try:
        if form in _GRAPHS:
            run = _GRAPHS[form](folder)
            return lambda images_BHWC: run(images_BHWC.permute(0, 3, 1, 2).float().contiguous())
        return _asking(_LIBRARIES[form](folder), stride)
    except KdError:
        raise
    except Exception as failure:  # whatever a library raises for a file that is none of its own
        raise BadWeights(
            f"{form} does not open it: {failure}", where=str(folder), fix="export the run again"
        ) from failure


def _asking(opened: InLibrary, stride: int) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """`stride` 0: nothing is padded and nothing cut."""
    normalise = Normalise(opened.mean, opened.std)

    def ask(images_BHWC: Tensor) -> tuple[Tensor, ...]:
        height, width = images_BHWC.shape[1:3]
        answer: Tensor = opened.model(normalise(pad_to_multiple(images_BHWC, stride or 1)))
        return (answer[:, :, : ceil_div(height, stride), : ceil_div(width, stride)] if stride else answer,)

    return ask
