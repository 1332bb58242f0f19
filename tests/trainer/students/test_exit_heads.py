"""The heads of exits, against the shapes of the published code; sizes are those of a ResNet's four stages."""

import pytest
import torch
from torch import nn

from kdcache.cache.spec import TensorSpec
from kdcache.trainer.students.exit_heads import Gate, attention_exit, bottleneck_exit

STAGES = [TensorSpec((16, 16, 8), 1), TensorSpec((8, 8, 12), 2), TensorSpec((4, 4, 20), 4)]


def convolutions(module: nn.Module) -> list[tuple[int, int, int, int, bool]]:
    """(in, out, kernel, stride, has bias) of each, in order."""
    return [
        (m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0], m.bias is not None)
        for m in module.modules()
        if isinstance(m, nn.Conv2d)
    ]


def test_a_bottleneck_narrows_reaches_the_last_stages_size_and_widens() -> None:
    made = bottleneck_exit(STAGES, width=20, num_classes=3)
    assert convolutions(made) == [(8, 5, 1, 1, True), (5, 5, 4, 4, True), (5, 20, 1, 1, True)]
    assert made.body(torch.zeros(2, 8, 16, 16)).shape == (2, 20, 4, 4)
    said = made(torch.zeros(2, 8, 16, 16))
    assert said["embedding"].shape == (2, 20) and said["logits"].shape == (2, 3)


def test_an_attention_exit_follows_the_later_stages() -> None:
    made = attention_exit(STAGES, width=20, num_classes=3)
    blocks = made.body[1:]  # type: ignore[index]
    assert convolutions(blocks) == [
        (8, 8, 3, 2, False), (8, 8, 1, 1, False), (8, 8, 3, 1, False), (8, 12, 1, 1, False),
        (12, 12, 3, 2, False), (12, 12, 1, 1, False), (12, 12, 3, 1, False), (12, 20, 1, 1, False),
    ]  # fmt: skip
    assert made.body(torch.zeros(2, 8, 16, 16)).shape == (2, 20, 4, 4)


def test_a_gate_only_dampens() -> None:
    torch.manual_seed(0)
    map_BCHW = torch.randn(2, 8, 6, 6)
    share = (Gate(8)(map_BCHW) / map_BCHW).detach()
    assert float(share.min()) >= 0.5 and float(share.max()) <= 1, "a sigmoid of what is not negative"
    assert float(share.std()) > 0.01


@pytest.mark.parametrize("make", [bottleneck_exit, attention_exit])
def test_the_embedding_is_the_mean_over_the_map_and_the_logits_are_linear_in_it(make: object) -> None:
    made = make(STAGES, width=20, num_classes=3).eval()  # type: ignore[operator]
    map_BCHW = torch.randn(2, 8, 16, 16)
    said = made(map_BCHW)
    torch.testing.assert_close(said["embedding"], made.body(map_BCHW).mean((2, 3)))
    torch.testing.assert_close(said["logits"], said["embedding"] @ made.head.weight.T + made.head.bias)
