"""One case of a golden file as tensors: inputs as leaves, expected values, weights, gradients.

Two spellings: `segmentation` files have bare keys (`feat_S`, `w_*`, `g_*`, `grad_*`, scalars are losses);
`classification` files have `in.<name>`, `out.<term>`, `out64.<term>`, `grad.<input>`, `grad64.<input>`.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bare_inputs import spec, step_inputs
from torch import Tensor, nn

from kdcache.cache.spec import IGNORE
from kdcache.losses.contract import Facts, Maps
from kdcache.losses.step_inputs import StepInputs

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-5}  # of the largest absolute value expected
PUBLISHED_ROUNDING = 5e-4  # the most that a published code's own float32 run may be off its float64 one


class Case:
    """One case in one precision: `case["feat_S"]` is a leaf, with gradient where the file has one for it.

    `folder` is where the file lies, for files of weights beside it. `loose` maps an expected key to the
    tolerance that holds for it in float32; adapters fill it with `loosen`.
    """

    def __init__(
        self,
        archive: Mapping[str, np.ndarray],
        number: int,
        dtype: torch.dtype,
        *,
        folder: Path = Path(),
    ) -> None:
        prefix = f"c{number}."
        self.arrays = {k.removeprefix(prefix): archive[k] for k in archive if k.startswith(prefix)}
        self.meta: dict[str, Any] = json.loads(str(self.arrays.pop("meta")))
        self.number = number
        self.dtype = dtype
        self.folder = folder
        self.loose: dict[str, float] = {}
        self.leaves: dict[str, Tensor] = {}

    def __getitem__(self, key: str) -> Tensor:
        if key not in self.leaves:
            array = torch.from_numpy(self.stored(key))
            leaf = array.to(self.dtype) if array.is_floating_point() else array
            self.leaves[key] = leaf.requires_grad_(self.gradient_key(key) in self.arrays)
        return self.leaves[key]

    def stored(self, key: str) -> np.ndarray:
        return self.arrays[key]

    def gradient_key(self, key: str) -> str:
        return f"grad_{key}"

    def expected(self) -> dict[str, np.ndarray]:
        """What the adapter must answer, by the file's own keys."""
        return {k: v for k, v in self.arrays.items() if v.ndim == 0 or k.startswith(("grad_", "g_"))}

    def tolerance(self, key: str) -> float:
        wide = self.loose.get(key, 0.0) if self.dtype == torch.float32 else 0.0
        return max(wide, TOLERANCE[self.dtype])

    def loosen(self, keys: Iterable[str], tolerance: float) -> None:
        """Expected values that the golden files' README excepts in float32."""
        self.loose |= dict.fromkeys(keys, tolerance)

    def maps(self, student: str, teacher: str, tap: str, **facts: Any) -> Maps:
        return Maps({tap: spec(self[student])}, {tap: spec(self[teacher])}, Facts(**facts))

    def inputs(self, tap: str, student: str, teacher: str, **more: Any) -> StepInputs:
        return step_inputs({tap: self[student]}, {tap: self[teacher]}, **more)

    def input_gradients(self, loss: Tensor) -> dict[str, Tensor]:
        """The gradient of `loss` for every leaf that the file has one for; zeros where it does not reach."""
        keys = {self.gradient_key(k): v for k, v in self.leaves.items() if v.requires_grad}
        slopes = torch.autograd.grad(loss, list(keys.values()), retain_graph=True, allow_unused=True)
        return {
            k: torch.zeros_like(v) if g is None else g for (k, v), g in zip(keys.items(), slopes, strict=True)
        }

    def load_named(self, module: nn.Module, names: Callable[[str], str]) -> nn.Module:
        """Put every `w_*` array into the module under `names(key)`; one left over on either side fails."""
        stored = {names(k): torch.from_numpy(v) for k, v in self.arrays.items() if k.startswith("w_")}
        module.to(self.dtype).load_state_dict(stored, strict=True)
        return module

    def labels(self) -> Tensor:
        """Segmentation labels with the project's mark for ignored pixels."""
        return self["labels"].masked_fill(self["labels"] == self.meta["ignore_index"], IGNORE)


class ClassificationCase(Case):
    """Keys without their `in.`; expected values by the names of the file, `out.loss`, `grad.logits_s`.

    A float64 run is compared with `out64` and `grad64`. So is a float32 run where the published code lost
    digits in float32, that is where its two answers differ by more than the tolerance; it may be as far off
    as the published one was.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lost: dict[str, float] = {}
        for key in (k for k in self.arrays if k.startswith(("out.", "grad."))):
            gap = relative_error(self.arrays[key], self._wide(key))
            if TOLERANCE[torch.float32] < gap <= PUBLISHED_ROUNDING:
                self.lost[key] = gap

    def stored(self, key: str) -> np.ndarray:
        return self.arrays[f"in.{key}"]

    def gradient_key(self, key: str) -> str:
        return f"grad.{key}"

    def expected(self) -> dict[str, np.ndarray]:
        stored = {k: v for k, v in self.arrays.items() if k.startswith(("out.", "grad."))}
        wide = stored if self.dtype == torch.float64 else self.lost
        return stored | {key: self._wide(key) for key in wide}

    def tolerance(self, key: str) -> float:
        lost = self.lost.get(key, 0.0) if self.dtype == torch.float32 else 0.0
        return super().tolerance(key) + lost

    def _wide(self, key: str) -> np.ndarray:
        return self.arrays.get(key.replace(".", "64.", 1), self.arrays[key])


def relative_error(ours: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference, over the largest absolute value of `wanted`; infinite for other shapes."""
    if ours.shape != wanted.shape and not ours.size == wanted.size == 1:
        return math.inf
    if wanted.size == 0:
        return 0.0
    return float(np.abs(ours - wanted).max()) / max(float(np.abs(wanted).max()), 1e-300)


Adapter = Callable[[Any], dict[str, Tensor]]
