"""Checks of map sizes before the first step; each error says which side can change and how."""

from kdcache.cache.grid import FPN, kind_of
from kdcache.cache.spec import BadOption, TensorSpec


def size_text(spec: TensorSpec) -> str:
    """'45x60 (stride 8)' or '6x8x512' parts of an error."""
    return f"{spec.size_key} (stride {spec.stride})" if spec.stride else spec.size_key


def check_same_size(
    term: str, tap: str, student: TensorSpec, teacher: TensorSpec, *, choose: str = ""
) -> None:
    """BadOption unless the two maps have equal height and width: no published form resizes.

    `choose` ends the third part.
    """
    if student.shape[:-1] == teacher.shape[:-1]:
        return
    raise BadOption(
        f"student tap '{tap}' is {size_text(student)} but the teacher's is {size_text(teacher)}",
        where=f"loss term '{term}'",
        fix=f"train the student with --output-stride {teacher.stride}, or build the cache with "
        f"--output-stride {student.stride}{choose}",
    )


def check_same_channels(term: str, tap: str, student: TensorSpec, teacher: TensorSpec) -> None:
    """BadOption unless both maps have the same channels, for losses that compare them one to one."""
    if student.channels == teacher.channels:
        return
    raise BadOption(
        f"student tap '{tap}' has {student.channels} channels but the teacher's has {teacher.channels}",
        where=f"loss term '{term}'",
        fix=_as_many(term, tap, teacher.channels),
    )


def _as_many(term: str, tap: str, channels: int) -> str:
    """What to do where both sides must have as many channels and have not."""
    if tap in ("logits", "aux"):
        return "train teacher and student on the same classes"
    if kind_of(tap) == FPN:
        return (
            f"take a student whose fpn has {channels} channels (--student 'gfl(width={channels}):r18'), or a "
            "loss that adapts them: --loss fgd or --loss mgd"
        )
    return f"name a tap where both have as many: {term}(taps=...), such as neck, or take another student"
