"""A step asks no tensor for its value: on a GPU each question waits until all that was queued is done."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from plain_run import BARE, Bench
from torch import Tensor

ASKING = ("item", "cpu", "tolist", "numpy", "__bool__", "__float__", "__int__", "nonzero")


@contextmanager
def counting(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    asked: list[str] = []
    with monkeypatch.context() as patch:
        for name in ASKING:
            original = getattr(Tensor, name)

            def counted(
                self: Tensor, *given: object, _name: str = name, _original: object = original
            ) -> object:
                asked.append(_name)
                return _original(self, *given)  # type: ignore[operator]

            patch.setattr(Tensor, name, counted)
        yield asked


@pytest.mark.parametrize("loss", ["none", "cwd(taps=stage4)"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_asks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: str, accumulate: int
) -> None:
    bench = Bench(tmp_path, replace(BARE, accumulate=accumulate, clip=1.0, ema=0.9), loss)
    bench.step(0)  # optimizers make their state
    with counting(monkeypatch) as asked:
        bench.step(1)
    assert asked == []


def test_a_step_that_may_be_left_out_asks_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, replace(BARE, non_finite="skip"), "none")
    bench.step(0)
    with counting(monkeypatch) as asked:
        bench.step(1)
    assert asked == ["__bool__"]


def test_the_count_sees_a_question(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    with counting(monkeypatch) as asked:
        assert bool(torch.ones(1) > 0) and torch.ones(1).item() == 1
    assert asked == ["__bool__", "item"]
