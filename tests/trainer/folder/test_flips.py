"""No flipped bit in a file of a run is taken for what was written."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from kdcache.cache.errors import KdError
from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.run_card import RunCard, read_run_card, save_run_network
from kdcache.cache.networks.weights import weights_digest
from kdcache.trainer.config import TrainConfig, check_config_seal, read_config, write_config
from kdcache.trainer.folder.environment import FILE_NAME, begun_generation, write_environment
from kdcache.trainer.folder.metrics_log import METRICS_NAME, MetricsLog, read_metrics
from kdcache.trainer.folder.run_folder import CONFIG_NAME
from kdcache.trainer.students.exit_file import CARD as EXITS
from kdcache.trainer.students.exit_file import exits_beside, read_exits

FIGURES = {"loss": {"total": 1.5}, "steps_per_s": 2.25}


def flips(path: Path, *, bits: int) -> Iterator[tuple[int, int]]:
    """The file with each bit of it flipped in turn, or with `bits` of each byte; the place is given."""
    whole = path.read_bytes()
    for place in range(len(whole)):
        for bit in sorted({(place + step) % 8 for step in range(bits)}):
            content = bytearray(whole)
            content[place] ^= 1 << bit
            path.write_bytes(content)
            yield place, bit
    path.write_bytes(whole)


def survivors(path: Path, read: Callable[[], object], *, bits: int = 8) -> list[tuple[int, int]]:
    """Flips that nobody noticed."""
    missed = []
    for place in flips(path, bits=bits):
        try:
            read()
        except KdError:
            continue
        missed.append(place)
    read()  # the whole file is good
    return missed


def test_of_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_network("resnet8", task="classification", num_classes=2)
    card = RunCard(
        network={}, data="x:/y", class_names=("a", "b"), crop=(8, 8), output_stride=4, metrics={"top1": 0.5}
    )
    save_run_network(tmp_path, network, card)
    monkeypatch.setattr("kdcache.cache.networks.run_card._settle", lambda folder, card: None)
    assert survivors(tmp_path / "network.json", lambda: read_run_card(tmp_path)) == []


def test_of_the_figures(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, keep_until=0)
    for step in (1, 2):
        log.write(step, FIGURES)
    log.close()
    path = tmp_path / METRICS_NAME
    last = path.stat().st_size - 1  # without its end the last line is one that a kill cut short
    missed = survivors(path, lambda: read_metrics(tmp_path))
    assert {place for place, _ in missed} <= {last}


def test_of_what_a_run_began_with(tmp_path: Path) -> None:
    write_environment(tmp_path, {"world": 1}, {"generation": 7, "entries": {"tap/logits": "ab"}})
    assert survivors(tmp_path / FILE_NAME, lambda: begun_generation(tmp_path)) == []


def test_of_the_options_where_a_run_goes_on_with_them(tmp_path: Path) -> None:
    write_config(tmp_path, TrainConfig(run="r", lr=0.25), {"crop": [8, 8]})

    def resumed() -> None:
        read_config(tmp_path)
        check_config_seal(tmp_path)

    assert survivors(tmp_path / CONFIG_NAME, resumed, bits=2) == []


def test_of_the_description_of_exits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_network("resnet8", task="classification", num_classes=2)
    with exits_beside(tmp_path, network, {"w": torch.zeros(1)}, form="byot", count=3):
        pass
    digest = weights_digest(network)
    monkeypatch.setattr("kdcache.trainer.students.exit_file.weights_digest", lambda network: digest)
    assert survivors(tmp_path / EXITS, lambda: read_exits(tmp_path, network)) == []
