"""What `kdtrain eval` does with `--exported DIR` in place of a run."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kdcache.cache.errors import BadOption
from kdcache.trainer.folder.option_field import flag

if TYPE_CHECKING:
    from kdcache.trainer.run import Judged

_TAKEN = ("exported", "data", "with_records", "threads", "device")


def judge_export(run: str | None, *, split: str, given: Mapping[str, Any]) -> "Judged":
    """`given`: the options of `eval` that were written, and those that it always gives. Raises BadOption for
    a run beside an export, for neither, and for what is asked of runs alone."""
    folder = given.get("exported")
    if folder is None:
        raise BadOption(
            "nothing to judge: no run and no export",
            where="kdtrain eval",
            fix="name a run, kdtrain eval RUN, or an export, kdtrain eval --exported DIR",
        )
    if run is not None:
        raise BadOption(
            f"both a run and an export to judge: '{run}' and '{folder}'",
            where=f"--exported {folder}",
            fix="leave one of them out",
        )
    for name in given:
        if name not in _TAKEN:
            option = {"exit_number": "--exit"}.get(name, flag(name))
            raise BadOption(
                f"{option} is asked of a run, and an export has nothing of it",
                where=f"--exported {folder}",
                fix=f"leave {option} out, or name the run in place of the export",
            )
    if given.get("device", "auto") == "cuda":
        raise BadOption("an export is judged on the CPU", where="--device cuda", fix="leave --device out")
    from kdcache.trainer.export.judge_exported import evaluate_exported

    asked = {name: given[name] for name in ("data", "with_records", "threads")}
    return evaluate_exported(folder, split=split, **asked)
