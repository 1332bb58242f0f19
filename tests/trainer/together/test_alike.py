"""Which runs may read the same batches: those whose order and pixels are the same, and no state of a process
stands between them."""

from dataclasses import replace

import pytest

from kdcache.trainer.config import TrainConfig
from kdcache.trainer.together.alike import alone_because, options_key

ONE = TrainConfig(run="a", cache="c", loss="kd", seed=1)


@pytest.mark.parametrize(
    "change",
    [
        {"cache": "d"}, {"crop": (32, 32)}, {"keep_empty": True}, {"batch_size": 8}, {"accumulate": 2},
        {"seed": 2}, {"device": "cpu"}, {"amp": "bf16"}, {"cache": None, "data": "camvid:/x"},
    ],
)  # fmt: skip
def test_what_changes_a_batch_or_belongs_to_the_process_parts_two_runs(change: dict[str, object]) -> None:
    assert options_key(replace(ONE, **change)) != options_key(ONE)  # type: ignore[arg-type]


def test_what_a_run_does_with_a_batch_parts_nobody() -> None:
    other = replace(ONE, run="b", loss="cwd", student="mbv2", lr=0.5, steps=7, ema=0.9, optimizer="adamw")
    assert options_key(other) == options_key(ONE)


def test_a_live_teacher_a_compiled_student_and_other_trackers_keep_a_process_to_themselves() -> None:
    assert "live teacher" in alone_because(replace(ONE, online=True, teacher="r50"))
    assert "torch.compile" in alone_because(replace(ONE, compile=True))
    assert "wandb follows" in alone_because(replace(ONE, log="tensorboard,wandb"))
    assert alone_because(replace(ONE, log="tensorboard")) == ""
