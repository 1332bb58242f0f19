"""Graphs that need no code of ours: ONNX by torch's exporter, and torch's own .pt2 archive.

Both take float RGB in 0..255, (batch, 3, height, width), any batch; normalisation, padding and the cutting of
maps are inside. Sizes are free where the network's own operators allow it.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.deployed import Deployed

ONNX, PT2 = "model.onnx", "model.pt2"
INPUT = "images"
Run = Callable[[Tensor], tuple[Tensor, ...]]  # (B, 3, H, W) float of 0..255 -> outputs in their order


def traced(
    deployed: Deployed, fixed_px: tuple[int, int] | None, *, unproved: bool = False
) -> ExportedProgram:
    """The graph for images of one size, or of any from `least_px` on. Raises whatever torch raises.

    `unproved`: what torch cannot prove of every size is looked at when the graph runs; its proofs end at the
    'same' padding of dilated encoders. Not every archive can write such looks down.
    """
    least = deployed.least_px
    # Two unlike numbers, no multiples of a stride: what is the same by chance would be taken for a rule.
    height, width = fixed_px or (least + 22, least + 45)
    shapes = {0: Dim("batch")}
    if fixed_px is None:
        shapes |= {2: Dim("height", min=least), 3: Dim("width", min=least)}
    with _quiet(), torch.no_grad():
        return torch.export.export(
            deployed,
            (torch.zeros(2, 3, height, width),),
            dynamic_shapes=(shapes,),
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=unproved,
        )


def write_onnx(program: ExportedProgram, outputs: tuple[str, ...], folder: Path) -> None:
    require_onnx()
    with _quiet():
        made: Any = torch.onnx.export(
            program, dynamo=True, input_names=[INPUT], output_names=list(outputs), verbose=False
        )
        made.save(folder / ONNX)


def open_onnx(folder: Path) -> Run:
    """On the CPU, as many threads as torch has."""
    require_onnx()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what it says of a failing node it also raises
    session = onnxruntime.InferenceSession(str(folder / ONNX), options, providers=["CPUExecutionProvider"])
    return lambda images_BCHW: tuple(
        torch.from_numpy(value) for value in session.run(None, {INPUT: images_BCHW.numpy()})
    )


def write_pt2(program: ExportedProgram, outputs: tuple[str, ...], folder: Path) -> None:
    del outputs  # in their order
    with _quiet():
        torch.export.save(program, folder / PT2)


def open_pt2(folder: Path) -> Run:
    with _quiet():
        run: Run = torch.export.load(folder / PT2).module()
    return run


def require_onnx() -> None:
    """Raises BadOption where a package of the extra is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise BadOption(
            f"ONNX needs a package that is not installed: {error.name}",
            where="--to onnx",
            fix="pip install 'kdcache[export]', or write torch's own graph: --to pt2",
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Exporters speak of their own passes: nothing in it that a user could change."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [one.level for one in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one in loggers:
            one.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for one, level in zip(loggers, levels, strict=True):
                one.setLevel(level)
