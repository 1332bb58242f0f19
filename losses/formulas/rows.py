"""Rows and taps: vectors as maps, maps as vectors, options that name taps of both sides.

B rows, C or D channels, H W cells.
"""

from torch import Tensor

from kdcache.cache.spec import BadOption, TensorSpec
from kdcache.losses.contract import tap_list
from kdcache.losses.options import OptionValue
from kdcache.losses.step_inputs import StepInputs, plain_rows

SAME = "same"  # of an option `hints`: the teacher's taps have the student's names


def as_map(value: Tensor) -> Tensor:
    """(B, D) as a map of one cell; a map as it is."""
    return value[:, :, None, None] if value.ndim == 2 else value


def as_vectors(value: Tensor) -> Tensor:
    """(B, C, H, W) as the mean over its cells; (B, D) as it is."""
    return value.mean((2, 3)) if value.ndim == 4 else value


def vectors_of(inputs: StepInputs, tap: str) -> tuple[Tensor, Tensor]:
    """One tap of student and teacher as (B, D) each, unturned images alone."""
    student, teacher = (
        as_vectors(plain_rows(inputs, side[tap])) for side in (inputs.student, inputs.teacher)
    )
    return student, teacher


def cells_of(spec: TensorSpec) -> tuple[int, int]:
    """(height, width) in cells; a vector is one cell."""
    return (spec.shape[0], spec.shape[1]) if len(spec.shape) == 3 else (1, 1)


def named_taps(term: str, value: OptionValue) -> tuple[str, ...]:
    """The taps of an option 'stage1/stage2'. BadOption where it names none."""
    taps = tap_list(value)
    if not taps:
        raise BadOption(
            "the option names no tap",
            where=f"loss term '{term}', option taps='{value}'",
            fix=f"for example {term}(taps=stage1/stage2)",
        )
    return taps


def tap_pairs(term: str, taps: str, hints: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The student's taps and the teacher's, 'same' for equal names. BadOption where they do not pair up."""
    guided = named_taps(term, taps)
    named = guided if hints == SAME else tap_list(hints)
    if len(named) != len(guided):
        raise BadOption(
            f"{len(guided)} maps of the student and {len(named)} of the teacher",
            where=f"loss term '{term}', options taps='{taps}' and hints='{hints}'",
            fix="name one hint for every tap, or hints=same for equal names",
        )
    return guided, named


def check_statistics(term: str, tap: str, map_BCHW: Tensor) -> None:
    """BadOption unless a channel has two values to take batch statistics of."""
    num_rows, _, height, width = map_BCHW.shape
    if num_rows * height * width < 2:
        raise BadOption(
            f"batch statistics of one value: {num_rows} image with a map of {height}x{width} cells",
            where=f"loss term '{term}', tap '{tap}'",
            fix="train with at least two images per step and rank (--batch-size)",
        )
