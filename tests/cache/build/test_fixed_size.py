"""Networks that take one input size teach at that size: built, grown, listed, and with exits on them."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from kdcache.cache.build.build import build_cache
from kdcache.cache.build.options import BuildOptions, parse_tap
from kdcache.cache.errors import BadOption
from kdcache.cache.look.teacher import network_for_listing
from kdcache.cache.networks.ensemble import Ensemble
from kdcache.cache.networks.network import Assembly, Network
from kdcache.cache.networks.network_config import NetworkConfig
from kdcache.cache.networks.weights import weights_digest
from kdcache.cache.reader.cache import open_cache
from kdcache.trainer.students.exits import Exits

PX = 160  # of timm's smallest transformer


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six noise images of its size, and weights for a transformer that tells three classes apart."""
    home, rng = tmp_path_factory.mktemp("fixed"), np.random.default_rng(0)
    pixels = rng.integers(0, 256, (6, PX, PX, 3), dtype=np.uint8)
    np.savez(home / "data.npz", x_train=pixels, y_train=np.arange(6) % 3)
    torch.manual_seed(0)
    torch.save(timm.create_model("test_vit3", num_classes=3).state_dict(), home / "vit.pt")
    return home


def options(home: Path, **changes: object) -> BuildOptions:
    given: dict[str, object] = {
        "runs_dir": home / "runs",
        "caches_dir": home / "caches",
        "teacher": "timm:test_vit3",
        "weights": str(home / "vit.pt"),
        "data": f"npz:{home / 'data.npz'}",
        "split": "trainval",
        "views": "full",
        **changes,
    }
    return BuildOptions(**given)  # type: ignore[arg-type]


def test_a_transformer_teaches_at_its_own_size_and_its_cache_grows(home: Path) -> None:
    root = build_cache(options(home)).root
    again = options(home, teacher=None, data=None, views=None, cache=root, taps=(parse_tap("block3=fp32"),))
    assert build_cache(again).rows == 6
    cache = open_cache(root)
    assert cache.tap("block3").spec(PX, PX).shape == (PX // 16, PX // 16, 96)
    network = timm.create_model("test_vit3", num_classes=3).eval()
    network.load_state_dict(torch.load(home / "vit.pt"))
    mean, std = (torch.tensor(network.default_cfg[kind]) for kind in ("mean", "std"))
    with np.load(home / "data.npz") as arrays:
        pixels_BHWC = torch.from_numpy(arrays["x_train"]).float() / 255
    with torch.no_grad():
        expected_BK = network(((pixels_BHWC - mean) / std).permute(0, 3, 1, 2))
    parts = [cache.parts("logits", index, 0) for index in range(6)]
    stacked = {name: torch.from_numpy(np.stack([part[name] for part in parts])) for name in parts[0]}
    torch.testing.assert_close(cache.codec("logits").decode(stacked), expected_BK, rtol=0, atol=2e-3)


def test_another_size_is_refused_with_the_crop_that_works(home: Path) -> None:
    with pytest.raises(BadOption) as caught:
        build_cache(options(home, crop=(96, 96)))
    assert str(caught.value) == (
        "timm:test_vit3 takes images of 160x160 pixels only, not 96x96\n"
        "  where: input of a network\n"
        "  fix:   pass --crop 160x160, or take a convolutional network"
    )


def test_taps_of_a_teacher_are_listed_with_its_weights(home: Path) -> None:
    network, size = network_for_listing(
        "timm:test_vit3", home / "runs", 3, None, "classification", str(home / "vit.pt")
    )
    assert size == (PX, PX) and network.trained_head
    bare, _ = network_for_listing("timm:test_vit3", home / "runs", 3, None, "classification")
    assert weights_digest(bare) != weights_digest(network)
    pair, _ = network_for_listing(
        "timm:test_vit3,timm:test_vit3", home / "runs", 3, None, "classification", f",{home / 'vit.pt'}"
    )
    assert isinstance(pair, Ensemble)
    digests = [weights_digest(member) for member in pair.members.values()]
    assert digests[1] == weights_digest(network) != digests[0]


class Staged(nn.Module):
    """Two stages; flattened pixels between them, so that it takes 8 x 12 and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.stage1 = nn.Conv2d(3, 4, 2, 2)
        self.stage2 = nn.Conv2d(4, 6, 2, 2)
        self.mix = nn.Linear(24, 24)
        self.head = nn.Linear(6, 3)

    def forward(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        first_BCHW = self.stage1(images_BCHW)
        mixed_BCHW = self.mix(first_BCHW.flatten(2)).view_as(first_BCHW)
        second_BCHW = self.stage2(mixed_BCHW)
        embedding_BD = second_BCHW.mean((2, 3))
        return {"stage1": mixed_BCHW, "stage2": second_BCHW, "embedding": embedding_BD,
                "logits": self.head(embedding_BD)}  # fmt: skip


def staged() -> Network:
    taps = {"stage1": "stage1", "stage2": "stage2", "embedding": "mix", "logits": "head"}
    assembly = Assembly(
        model=Staged(), taps=taps, returns={path: tap for tap, path in taps.items()}, pad_multiple=1,
        input_px=(8, 12), fixed_size=True, heads=("head",),
    )  # fmt: skip
    config = NetworkConfig(name="staged", num_classes=3, output_stride=4, task="classification")
    return Network(config, assembly, trained_head=True)


def test_exits_sit_on_a_network_of_one_size() -> None:
    student = Exits(staged(), count=1)
    images_BHWC = torch.zeros((2, 8, 12, 3), dtype=torch.uint8)
    assert student(images_BHWC, ("exit1.logits", "logits"))["exit1.logits"].shape == (2, 3)


def test_an_ensemble_is_tried_at_the_size_that_one_of_it_needs(home: Path) -> None:
    free, _ = network_for_listing("resnet8", home / "runs", 3, None, "classification")
    pair = Ensemble("pair", {"free": free, "fixed": staged()}, mean=True)
    assert pair.probe_px == (8, 12)
    assert pair.tap_specs(["free.stage3", "fixed.stage2"], *pair.probe_px)["fixed.stage2"].shape == (2, 3, 6)
