"""From a manifest to parts on disk."""

from types import SimpleNamespace
from typing import cast

from kdcache.cache.record.layout import bytes_per_row, target_layout
from kdcache.cache.record.manifest import Manifest
from kdcache.cache.spec import PartSpec, TensorSpec

WIDE, TALL = TensorSpec((2, 3, 5), 8), TensorSpec((3, 2, 5), 8)
MANIFEST = cast(
    Manifest,
    SimpleNamespace(
        teacher="r101", num_views=3, shard_samples=4, zstd=True, vector_bytes=64,
        tap=lambda name: SimpleNamespace(codec={"stage4": "int8", "logits": "raw"}[name]),
    ),
)  # fmt: skip


def test_a_layout_has_the_parts_of_each_map_size_that_was_asked_for() -> None:
    layout = target_layout(MANIFEST, {"stage4": [WIDE, TALL], "logits": [WIDE]}, num_blocks=3)
    assert list(layout.taps["stage4"].parts) == ["2x3", "3x2"] and list(layout.taps["logits"].parts) == [
        "2x3"
    ]
    assert layout.taps["stage4"].parts["3x2"] == {
        "values": PartSpec((3, 2, 5), "uint8", True),
        "scale": PartSpec((2, 5), "float32", False),
    }
    assert layout.taps["logits"].codec == "fp16"  # 'raw' is a name of it
    assert (layout.teacher, layout.num_views, layout.num_samples) == ("r101", 3, 12)
    assert (layout.shard_samples, layout.zstd, layout.vector_bytes) == (4, True, 64)


def test_a_row_takes_the_bytes_of_all_its_parts() -> None:
    assert bytes_per_row(MANIFEST, "stage4", WIDE) == 2 * 3 * 5 + 2 * 5 * 4
    assert bytes_per_row(MANIFEST, "logits", WIDE) == 2 * 3 * 5 * 2
