"""The critic: its spectral norm at every forward, its sizes, its input scalings."""

import pytest
import torch
from torch import Tensor

from kdcache.losses.dense.critic import BatchScale, Critic, SelfAttention, SpectralConv, smallest_side


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_divided_weight_has_a_largest_singular_value_of_one_after_some_forwards() -> None:
    torch.manual_seed(0)  # 60 forwards are enough unless the two largest values are nearly equal
    layer, image = SpectralConv(3, 8), drawn(1, 3, 4, 4)
    for _ in range(60):
        layer(image)
    largest = torch.linalg.svdvals(layer.weight.flatten(1))[0]
    sigma = layer.u @ layer.weight.flatten(1) @ layer.v
    torch.testing.assert_close(sigma, largest, rtol=1e-4, atol=0)


@pytest.mark.parametrize("training", [True, False])
def test_every_forward_moves_the_estimate_in_evaluation_too(training: bool) -> None:
    layer = SpectralConv(3, 8).train(training)
    seen = []
    for _ in range(2):
        layer(drawn(1, 3, 4, 4))
        seen.append(layer.u.clone())
    assert not torch.equal(seen[0], seen[1])


def test_a_later_forward_does_not_change_the_gradient_of_an_earlier_one() -> None:
    layer, image = SpectralConv(2, 4), drawn(1, 2, 4, 4)
    state = {name: value.clone() for name, value in layer.state_dict().items()}
    (alone,) = torch.autograd.grad(layer(image).square().sum(), layer.weight)
    layer.load_state_dict(state)
    first = layer(image).square().sum()
    layer(drawn(1, 2, 4, 4, seed=1))
    (beside,) = torch.autograd.grad(first, layer.weight)
    assert torch.equal(alone, beside)


def test_a_longer_weight_divides_to_the_same_so_the_gradient_has_no_part_along_it() -> None:
    layer = SpectralConv(2, 4)
    (gradient,) = torch.autograd.grad(layer(drawn(1, 2, 4, 4)).square().sum(), layer.weight)
    along = (gradient * layer.weight).sum() / (gradient.norm() * layer.weight.norm())
    assert gradient.norm() > 0.1 and along.abs() < 1e-5


def test_attention_mixes_cells_by_the_softmax_over_the_cells_that_are_asked() -> None:
    attention, image = SelfAttention(8), drawn(1, 8, 1, 3)
    torch.nn.init.constant_(attention.gamma, 0.5)
    cells = [image[..., i : i + 1] for i in range(3)]
    query, key, value = ([layer(cell).flatten() for cell in cells]
                         for layer in (attention.query, attention.key, attention.value))  # fmt: skip
    for i, cell in enumerate(cells):
        strengths = [torch.exp(query[i] @ key[j]) for j in range(3)]
        mixed = torch.stack([strengths[j] * value[j] for j in range(3)]).sum(0) / sum(strengths)
        torch.testing.assert_close(attention(image)[0, :, 0, i], cell.flatten() + 0.5 * mixed)


def test_attention_starts_as_the_identity_and_mixes_cells_with_gamma() -> None:
    attention, image = SelfAttention(16), drawn(2, 16, 3, 3)
    assert torch.equal(attention(image), image)
    torch.nn.init.ones_(attention.gamma)
    changed = image.clone()
    changed[..., 2, 2] += 1
    assert (attention(changed) - attention(image))[..., 0, 0].abs().max() > 0


@pytest.mark.parametrize(("levels", "side"), [(1, 8), (2, 16), (3, 32)])
def test_the_smallest_side_is_where_the_last_convolution_fits(levels: int, side: int) -> None:
    assert smallest_side(levels) == side
    critic = Critic(3, levels=levels)
    assert critic(drawn(1, 3, side, side + 8)).shape[:3] == (1, 1, 1)
    with pytest.raises(RuntimeError, match="Kernel size can't be greater"):
        critic(drawn(1, 3, side - 1, side))


def test_published_size_and_inputs_of_the_three_scalings() -> None:
    assert smallest_side(4) == 64
    assert sum(parameter.numel() for parameter in Critic(19).parameters()) == pytest.approx(3.2e6, rel=0.01)
    image = drawn(2, 3, 4, 4) * 5 + 7
    scaled = {name: Critic(3, scaling=name, levels=1)._scaled(image) for name in ("tanh", "rescale", "none")}  # type: ignore[arg-type]
    torch.testing.assert_close(scaled["tanh"], image.tanh())
    torch.testing.assert_close(scaled["rescale"], image / 127.5 - 1)
    assert scaled["none"] is image


def test_batch_scaling_uses_its_own_batch_in_evaluation_too_and_keeps_nothing() -> None:
    scale = BatchScale(3).eval()
    scaled = scale(drawn(2, 3, 4, 4) * 5 + 7)
    torch.testing.assert_close(scaled.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    assert not list(scale.buffers())
    converted = torch.nn.SyncBatchNorm.convert_sync_batchnorm(Critic(3, levels=1))
    assert isinstance(converted.norm, BatchScale)


def test_the_critic_computes_in_float32_under_autocast() -> None:
    critic, image = Critic(3, levels=1), drawn(2, 3, 8, 8).bfloat16()
    state = {name: value.clone() for name, value in critic.state_dict().items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        score = critic(image)
    critic.load_state_dict(state)
    assert score.dtype == torch.float32
    assert torch.equal(score, critic(image.float()))
