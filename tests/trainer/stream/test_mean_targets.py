"""An ensemble's members answer together what none of them keeps under that name."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from kdcache.cache.errors import BadOption
from kdcache.cache.spec import Need, TensorSpec, members_of
from kdcache.trainer.stream.batch import Batch
from kdcache.trainer.stream.mean_targets import check_alike, mean_of, sources_of
from kdcache.trainer.stream.online import OnlineStream

KEPT = ("a.logits", "b.logits", "a.stage4", "a.embedding.centred", "b.embedding.centred")


@pytest.mark.parametrize(
    ("names", "need", "members"),
    [
        (KEPT, "logits", ("a.logits", "b.logits")),
        (KEPT, "embedding.centred", ("a.embedding.centred", "b.embedding.centred")),
        (KEPT, "stage4", ()),  # a mean over some would be another teacher
        (KEPT, "centred", ()),
        (KEPT, "a.logits", ()),
        ((*KEPT, "logits"), "logits", ()),  # kept as it is
        (("stage3.attention", "stage4"), "attention", ()),  # reductions of one network are no members
        (("a.logits",), "logits", ()),
    ],
)
def test_only_a_mean_over_every_member_stands_for_a_need(
    names: tuple[str, ...], need: str, members: tuple[str, ...]
) -> None:
    assert members_of(names, need) == members


def test_the_mean_is_unweighted_and_float32_whatever_the_members_were_stored_as() -> None:
    values = {"a.logits": torch.tensor([[1.0, 3.0]]).half(), "b.logits": torch.tensor([[2.0, -1.0]])}
    means = mean_of(values, sources_of(KEPT, ["logits", "a.logits"]))
    assert torch.equal(means["logits"], torch.tensor([[1.5, 1.0]])) and means["logits"].dtype == torch.float32
    assert means["a.logits"] is values["a.logits"]


def test_members_of_different_shapes_have_no_mean() -> None:
    shapes = {"a.logits": TensorSpec((3,), 0), "b.logits": TensorSpec((10,), 0)}
    with pytest.raises(BadOption) as caught:
        check_alike({"logits": ("a.logits", "b.logits")}, shapes.__getitem__, "digits-ab")
    assert "differ in shape: a.logits 3, b.logits 10" in caught.value.what
    assert caught.value.where == "cache digits-ab" and "teacher of one network" in caught.value.fix


class TwoMembers(torch.nn.Module):
    """Stands for an ensemble: the mean of the pixels, and twice it."""

    name = "two"
    taps = {"a.logits": "", "b.logits": ""}

    def forward(self, images_BHWC: Tensor, taps: Sequence[str]) -> dict[str, Tensor]:
        mean_BC = images_BHWC.float().mean((1, 2))
        return {tap: mean_BC * (1 if tap[0] == "a" else 2) for tap in taps}


def test_a_live_ensemble_is_read_as_the_same_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdcache.trainer.stream.online.weights_digest", lambda network: "")
    live = OnlineStream(None, TwoMembers(), [Need(tap="logits")], "cpu")  # type: ignore[arg-type]
    images = torch.full((2, 4, 4, 3), 10, dtype=torch.uint8)
    batch = Batch(images, torch.zeros(2), {}, 0, 0, torch.arange(2))
    assert torch.equal(live.targets(batch)["logits"], torch.full((2, 3), 15.0))
