"""torchdistill 1.1.4 for benchmarks/peers.py: its cache of teacher outputs as a store, and the whole job with
it.

The store: `DistillationBox.get_teacher_output` writes a file a sample the first time that it is given their
paths (always float32, whatever the teacher said), `CacheableDataset` reads it. The job: the training loop of
its image classification example with `cache_output`, random crops and flips by torchvision as in its CIFAR
settings. One file a sample holds one answer: that to the crop of the first epoch, which later crops are then
taught by.
"""

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from peers_stores import Batch, Like, Said, Store, Table, like, steps

PARTS = "values"


class TorchdistillFiles(Store):
    name, packages = "torchdistill", ("torchdistill", "torch")
    modules = ("torchdistill.core.distillation", "torchdistill.datasets.wrapper")
    as_recommended = "cache_output: a .pt a sample in a folder of its own, float32, read by CacheableDataset"

    def write(self, table: Table, folder: Path, said: Said) -> None:
        import torch
        from torchdistill.core.distillation import DistillationBox
        from torchdistill.datasets.wrapper import default_idx2subpath

        box = SimpleNamespace(
            device=torch.device("cpu"), teacher_updatable=False, teacher_model=None,
            teacher_io_dict={}, teacher_forward_proc=lambda _model, outputs, *_: outputs,
        )  # fmt: skip
        for first, end in steps(like(table).rows):
            outputs = torch.from_numpy(np.array(table[PARTS][first:end])).float()
            paths = [str(folder / f"{default_idx2subpath(i)}.pt") for i in range(first, end)]
            supp = {"cache_file_path": paths}
            DistillationBox.get_teacher_output(box, outputs, None, supp)
            said(end)

    def open(self, folder: Path, like: Like) -> Batch:
        import torch
        from torchdistill.datasets.wrapper import CacheableDataset, default_idx2subpath

        dataset = CacheableDataset(_Nothing(), str(folder), idx2subpath_func=default_idx2subpath)

        def batch(indices: np.ndarray) -> dict[str, np.ndarray]:
            rows = [dataset[index][2]["cached_data"]["teacher_outputs"] for index in indices.tolist()]
            return {PARTS: torch.stack(rows).numpy()}

        return batch

    def claims(self, folder: Path, like: Like) -> int:
        return sum(1 for _ in folder.rglob("*.pt"))


class _Nothing:
    """Samples without images: what is measured is the cache."""

    def __getitem__(self, index: int) -> tuple[int, int]:
        return 0, 0


def train_config(
    job: dict[str, Any], temperature: float | None, num_steps: int, sampler: Any
) -> dict[str, Any]:
    """The settings of one run in the words of torchdistill's YAML files; `none` is kd with all of the weight
    on the labels."""
    loader = {"num_workers": job["workers"], "batch_size": job["batch"]}
    alpha = 0.1 if temperature else 1.0
    kd = {
        "student_module_path": ".", "student_module_io": "output", "teacher_module_path": ".",
        "teacher_module_io": "output", "reduction": "batchmean", "temperature": temperature or 1.0,
        "alpha": alpha,
    }  # fmt: skip
    return {
        "num_epochs": job["epochs"],
        "train_data_loader": {
            "dataset_id": "train", "cache_output": job["cache"], "kwargs": loader,
            "sampler": {"class_or_func": sampler[0], "kwargs": {}},
        },
        "val_data_loader": {
            "dataset_id": "val", "kwargs": loader, "sampler": {"class_or_func": sampler[1], "kwargs": {}},
        },
        "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False},
        "student": {"forward_proc": "forward_batch_only", "requires_grad": True},
        "optimizer": {"key": "SGD", "kwargs": job["sgd"]},
        "scheduler": {
            "key": "CosineAnnealingLR", "kwargs": {"T_max": num_steps}, "scheduling_step": 1,
        },
        "criterion": {
            "key": "WeightedSumLoss",
            "kwargs": {"sub_terms": {"kd": {"criterion": {"key": "KDLoss", "kwargs": kd}, "weight": 1.0}}},
        },
    }  # fmt: skip


def run(
    job: dict[str, Any], temperature: float | None, datasets: dict[str, Any], teacher: Any, student: Any
) -> float:
    """One ablation; returns the share of validation images that are right."""
    import torch
    from torch.utils.data import DataLoader, RandomSampler, SequentialSampler
    from torchdistill.core.distillation import DistillationBox

    batches = -(-len(datasets["train"]) // job["batch"])
    config = train_config(job, temperature, batches * job["epochs"], (RandomSampler, SequentialSampler))
    box = DistillationBox(
        teacher,
        student,
        datasets,
        config,
        torch.device("cpu"),
        device_ids=None,
        distributed=False,
        lr_factor=1,
    )
    with Path(job["log"]).open("a") as log:
        for epoch in range(job["epochs"]):
            box.pre_epoch_process(epoch=epoch)
            for images, targets, supp in box.train_data_loader:
                box.pre_forward_process()
                loss = box.forward_process(images, targets, supp)
                box.post_forward_process(loss=loss)
                log.write(f"{loss.item()}\n")
            box.post_epoch_process()
    torch.save(student.state_dict(), f"{job['log']}.student.pt")
    test_loader = DataLoader(datasets["test"], batch_size=job["batch"], num_workers=job["workers"])
    with Path(job["log"]).open("a") as log:
        log.write(f"test {judge(student, test_loader)}\n")
    return judge(student, box.val_data_loader)


def judge(student: Any, loader: Any) -> float:
    """The share of images that are right."""
    import torch

    student.eval()
    right = total = 0
    with torch.no_grad():
        for images, targets, *_ in loader:
            right += int((student(images).argmax(1) == targets).sum())
            total += len(targets)
    return right / total


def main() -> None:
    """`python peers_torchdistill.py JOB.json`: prints a line of JSON after each ablation."""
    import torch
    from peers_hand import logits_of, mini, mini_networks, title

    job = json.loads(Path(sys.argv[1]).read_text())
    began = time.perf_counter()
    datasets = {name: Photos(*mini(job, name), augment=name == "train") for name in ("train", "val", "test")}
    for number, temperature in enumerate(job["temperatures"]):
        torch.manual_seed(number)
        teacher, student = (logits_of(network) for network in mini_networks(job))
        score = run(job, temperature, datasets, teacher.eval(), student)
        line = {"label": title(temperature), "at_s": time.perf_counter() - began, "score": score}
        print(json.dumps(line), flush=True)


class Photos:
    """(N,32,32,3) uint8 as PIL images through torchvision's transforms, as its CIFAR settings have them."""

    def __init__(self, images_NHWC: np.ndarray, labels_N: np.ndarray, *, augment: bool) -> None:
        from torchvision import transforms

        drawn = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()] if augment else []
        norm = transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
        self.transform = transforms.Compose([*drawn, transforms.ToTensor(), norm])
        self.images, self.labels = images_NHWC, labels_N

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


if __name__ == "__main__":
    main()
