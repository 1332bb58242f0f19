"""The memory format in which the networks of a run compute: their own, unless the run or its cache began in
another one. It decides last bits, and a run that goes on must be the run that it would have been."""

from pathlib import Path

from torch import nn

from kdcache.cache.networks import layout
from kdcache.cache.networks.network import Network
from kdcache.cache.reader.cache import Cache
from kdcache.trainer.folder.checkpoint import list_checkpoints
from kdcache.trainer.folder.environment import began_with
from kdcache.trainer.students.export import network_of


def lay_out(run_dir: Path, cache: Cache | None, student: nn.Module, teacher: Network | None) -> str:
    """The student's format, which a run that goes on keeps, as its live teacher does: a run of before there
    was a choice is contiguous. A teacher beside its cache computes as it did then."""
    began = began_with(run_dir) if list_checkpoints(run_dir) else {}
    kept = str(began.get("memory_format", layout.CONTIGUOUS)) if began else network_of(student).memory_format
    layout.lay_out(student, kept)  # exits and branches too, in a new run as in one that goes on
    for network in (one for one in student.modules() if isinstance(one, Network)):
        network.lay_out(kept)
    if teacher is not None and cache is not None:
        teacher.lay_out(cache.manifest.memory_format)
    elif teacher is not None and began and "memory_format" not in began:
        teacher.lay_out(layout.CONTIGUOUS)
    return kept
