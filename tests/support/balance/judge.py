"""The toy task's judge, as trainer/judge/X.py: how close a network comes to the numbers."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kdcache.cache.errors import BadSample
from kdcache.cache.tasks.panels import text_panel
from kdcache.cache.views.draw import centre_view
from kdcache.cache.views.view import Geometry
from kdcache.trainer.judge.contract import Answers, JudgedImage
from kdcache.trainer.judge.contract import Judge as TaskJudge

SCORE = "closeness"


class BalanceMetrics(NamedTuple):
    """`closeness` is 1 - the mean absolute error; `agreement` the same of a teacher's answers."""

    closeness: float
    num_images: int
    name: str
    agreement: float | None = None

    @property
    def score_name(self) -> str:
        return SCORE

    @property
    def score(self) -> float:
        return self.closeness

    @property
    def per_class(self) -> Mapping[str, float]:
        return {self.name: self.closeness}

    @property
    def per_class_key(self) -> str:
        return "per_number_closeness"

    @property
    def per_class_title(self) -> str:
        return "closeness %"

    def named(self) -> dict[str, float]:
        beside = {} if self.agreement is None else {"agreement": self.agreement}
        return {SCORE: self.closeness, **beside}


class Judge(TaskJudge):
    """The table: (N, 2), the distance from the truth and from the teacher's answer."""

    batch_size = 4
    score_name = SCORE

    def geometry(self, size: tuple[int, int], input_size: tuple[int, int]) -> Geometry:
        (resized_h, resized_w), (y, x) = centre_view(*size, input_size)
        return Geometry(resized_h, resized_w, 0, y, x, *input_size)

    def table(self, num_images: int, device: torch.device) -> Tensor:
        return torch.zeros(num_images, 2, dtype=torch.float64, device=device)

    def check_truth(self, truth: Tensor, key_of: Callable[[int], str]) -> None:
        wrong = (truth.abs() > 1).nonzero().flatten().tolist()
        if wrong:
            raise BadSample(f"'{key_of(wrong[0])}' is out of balance", where="evaluation", fix="draw it anew")

    def fill(
        self, table: Tensor, places: slice, answers: Answers, truth: Tensor, teacher_answers: Answers | None
    ) -> None:
        """`truth` (B,) float32."""
        said_B = answers["logits"][:, 0]
        table[places, 0] = (said_B - truth).abs().double()
        if teacher_answers is not None:
            table[places, 1] = (said_B - teacher_answers["logits"][:, 0]).abs().double()

    def metrics(self, table: Tensor, images: Iterable[JudgedImage], *, with_teacher: bool) -> BalanceMetrics:
        del images
        closeness, agreement = (1 - table.mean(0)).tolist()
        return BalanceMetrics(closeness, len(table), self.class_names[0], agreement if with_teacher else None)

    def picture(self, answers: Answers, image_HWC: np.ndarray) -> np.ndarray:
        del image_HWC
        return text_panel([f"{float(answers['logits'][0, 0]):+.3f}"])
