"""The table of `kdcache taps`: a row per tap; levels of a group stand under a row of the group."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kdcache.cache.codecs.table import default_codec, make_codec
from kdcache.cache.errors import size_text
from kdcache.cache.networks.network import Network
from kdcache.cli.terminal import Table


class Row(NamedTuple):
    """A tap, or a group, whose bytes are those of all of its levels."""

    name: str
    place: str
    cells: str
    stride: str
    codec: str
    num_bytes: int


def taps_table(network: Network, size: tuple[int, int]) -> Table:
    """Shape, stride, codec and bytes per row of every tap, for an input of (height, width) pixels."""
    table = Table("tap", "module", "H x W x C", "stride", "codec", "bytes a row")
    rows = {row.name: row for row in tap_rows(network, list(network.taps), size)}
    grouped = {tap for levels in network.groups.values() for tap in levels}
    for name, row in rows.items():
        if name not in grouped:
            table.add_row(*row[:-1], size_text(row.num_bytes))
    for group, levels in network.groups.items():
        table.add_section()
        of_levels = [rows[tap] for tap in levels]
        total = sum(row.num_bytes for row in of_levels)
        table.add_row(group, f"all {len(levels)} levels", "", "", "", size_text(total))
        for row in of_levels:
            table.add_row(f"  {row.name}", *row[1:-1], size_text(row.num_bytes))
    return table


def tap_rows(network: Network, taps: Sequence[str], size: tuple[int, int]) -> Iterator[Row]:
    for name, spec in network.tap_specs(taps, *size).items():
        codec = make_codec(default_codec(name, spec))
        num_bytes = sum(part.num_bytes for part in codec.parts(spec).values())
        cells = " x ".join(map(str, spec.shape))
        yield Row(name, network.taps[name], cells, str(spec.stride), codec.name, num_bytes)
