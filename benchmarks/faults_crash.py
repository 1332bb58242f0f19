"""Crash points of faults.py: a forked child dies by SIGKILL at the n-th operation of the store."""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

from cache_scene import Scene, built_scene, counted_store, draw_scene, living_rows, tree
from faults_jobs import JOBS, Job

from kdcache.cache.errors import KdError
from kdcache.cache.look.verify import problems

FORMATS = ("zarr", "webdataset")


def crash_cases(small: bool) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Every operation of every job, before and after it; `small` takes every twelfth."""
    for target_format in FORMATS:
        for job in JOBS:
            count = reference(job.name, target_format)[0]
            for number in range(0, count, 12 if small else 1):
                for when in ("before", "after"):
                    name = f"{target_format} {job.name} {when} {number}"
                    yield name, partial(crash, job, target_format, number, when)


@cache
def template(job_name: str, target_format: str) -> Scene:
    """The data and the cache as they are when the job begins."""
    job = next(j for j in JOBS if j.name == job_name)
    root = Path(tempfile.mkdtemp(prefix="kdcache-crash-")) / "template"
    scene = built_scene(root, target_format) if job.built else draw_scene(root, target_format)
    job.before(scene)
    return scene


@cache
def reference(job_name: str, target_format: str) -> tuple[int, dict[str, object], dict[str, str]]:
    """Operations, living rows and files of the job that is never killed."""
    job = next(j for j in JOBS if j.name == job_name)
    scene = template(job_name, target_format)
    done = scene.copy(scene.root.with_name("case"))  # where every case lies: a manifest names the folder
    with counted_store() as counter:
        job.run(done)
    kept = counter.number, living_rows(result(job, done)), tree(result(job, done))
    shutil.rmtree(done.root)
    return kept


def result(job: Job, scene: Scene) -> Path:
    return scene.caches / "small" if job.name == "compact" else scene.cache


def crash(job: Job, target_format: str, number: int, when: str) -> dict[str, Any]:
    """Die once, then run the same command."""
    _, rows, files = reference(job.name, target_format)
    begun = template(job.name, target_format)
    scene = begun.copy(begun.root.with_name("case"))
    try:
        died = in_child(lambda: killed_at(job, scene, number, when))
        if died != -signal.SIGKILL:
            return {"failed": 1, "why": f"the child ended with {died}"}
        status = in_child(lambda: job.run(scene))
        if status:
            return {"failed": 1, "traceback": int(status == 1), "why": f"the second run ended with {status}"}
        return compared(result(job, scene), rows, files if job.same_data else None)
    finally:
        shutil.rmtree(scene.root)


def compared(root: Path, rows: dict[str, object], files: dict[str, str] | None) -> dict[str, Any]:
    """What differs from the run that was never killed."""
    if problem := next(problems(root), None):
        return {"failed": 1, "why": f"verify: {problem.title}: {problem.text}"}
    if living_rows(root) != rows:
        return {"failed": 1, "silent": 1, "why": "other living rows"}
    if files is not None and (now := tree(root)) != files:
        names = sorted(n for n in {*files, *now} if files.get(n) != now.get(n))
        return {"failed": 1, "why": f"other bytes: {', '.join(names[:4])}"}
    return {"same": 1}


def killed_at(job: Job, scene: Scene, number: int, when: str) -> None:
    def at(operation: int, moment: str) -> None:
        if (operation, moment) == (number, when):
            os.kill(os.getpid(), signal.SIGKILL)

    with counted_store(at):
        job.run(scene)


def in_child(work: Callable[[], object]) -> int:
    """Exit status of a forked child: 0 done, 2 a KdError, 1 another exception, negative a signal."""
    pid = os.fork()
    if pid == 0:
        status = 0
        try:
            work()
        except KdError as error:
            print(error)
            status = 2
        except BaseException:
            import traceback

            traceback.print_exc()
            status = 1
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
