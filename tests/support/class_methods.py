"""Every method for classification in a real run of a few tiny steps: drawn arrays, a cache of the tiny
classifier with plain and turned views, and the student that each method needs.

On one of several ranks: python -m torch.distributed.run --nproc-per-node 2 -m -- class_methods LOSS HOME OUT.
Every rank writes its weights and buffers to `<OUT>/rank<r>.pt`.
"""

import os
import sys
from pathlib import Path

import torch
from class_data import draw_npz
from rank_steps import on_two_ranks

from kdcache.cache.build.build import build_cache
from kdcache.cache.build.options import BuildOptions, parse_tap
from kdcache.cache.tasks.table import CLASSIFICATION, SEGMENTATION
from kdcache.losses.plan.load import load_loss
from kdcache.losses.plan.table import LOSSES
from kdcache.trainer import loop
from kdcache.trainer.run import train_run

SIZE = (16, 16)
OPTIONS = {  # what the taps of the tiny classifier and a few samples ask for
    "fitnet": "(taps=stage1)",
    "at": "(taps=stage1)",
    "reviewkd": "(taps=stage1/embedding,hints=same)",
    "pkd": "(taps=stage1)",
    "mgd": "(tap=stage1)",
    "kd-topk": "(k=2)",
    "crd": "(negatives=4,dim=8)",
    "byot": "(exits=2)",
}
FORMS = (
    "fitnet(taps=stage1,form=lenscloth)",
    "fitnet(taps=stage1,form=original)",
    "sskd(stage=head)",
    "dml(form=paper)",
    "dml(form=okddip,students=3)",
    "okddip(form=students,peers=3)",
    "byot(exits=2,form=archiplab)",
    "crd(negatives=4,dim=8)+kd(stop=1)",
)
METHODS = (
    "none",
    *(
        f"{n}{OPTIONS.get(n, '')}"
        for n in LOSSES
        if CLASSIFICATION in load_loss(n, where="tests", task=SEGMENTATION).tasks
    ),
    *FORMS,
)
HEAD = "head"  # the run of SSKD's first stage
SPLIT = ("okddip", "one", "cl-ilr", "byot")  # their students are cut into stages
ALONE = ("dml", *SPLIT)  # fresh views, no teacher


def make_home(home: Path) -> Path:
    """Arrays of 16 x 16 pixels and a cache of them: one crop and one four of turns of each sample."""
    spec = f"npz:{draw_npz(home, (*SIZE, 3))}"
    taps = tuple(parse_tap(tap) for tap in ("stage1=fp16", "embedding", "logits"))
    common = {"runs_dir": home / "runs", "caches_dir": home / "caches", "data": spec, "crop": SIZE}
    for views in ("crops:1", "turns:1"):
        build_cache(BuildOptions(teacher="tiny_classifier:make", views=views, taps=taps, **common))  # type: ignore[arg-type]
    return home


def options_of(loss: str, home: Path) -> dict[str, object]:
    """Two steps of the method, with a checkpoint after each."""
    name = loss.partition("(")[0]
    given: dict[str, object] = {
        "loss": loss,
        "student": "wrn-10-1" if name in SPLIT else "tiny_classifier:make_other",
        "steps": 2,
        "batch_size": 6,
        "lr": 0.05,
        "save_every": 1,
        "device": "cpu",
        "log": "none",
    }
    if name in ALONE or name == "dafl":
        given["data"] = f"npz:{home / 'small.npz'}"
    if name == "dafl":
        given |= {"online": True, "teacher": "tiny_classifier:make"}
    if loss == "sskd":
        given["init"] = HEAD
    return given


def two_ranks(loss: str, home: Path, out: Path) -> list[dict[str, torch.Tensor]]:
    """The method on two CPU ranks: weights and buffers of student and losses, of each."""
    return [left["state"] for left in on_two_ranks("class_methods", out, loss, str(home), str(out))]


def main(loss: str, home: Path, out: Path) -> None:
    made = []
    make = loop.make_stepper

    def remembered(*arguments: object, **named: object) -> object:
        made.append(make(*arguments, **named))  # type: ignore[arg-type]
        return made[0]

    loop.make_stepper = remembered  # type: ignore[assignment]
    train_run({**options_of(loss, home), "run": "ranks"}, home=home)
    left = {"world": int(os.environ["WORLD_SIZE"]), "state": made[0].module.state_dict()}
    torch.save(left, out / f"rank{os.environ['RANK']}.pt")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
