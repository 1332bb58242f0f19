"""Exporting a run's student in any form: the deployed network as always, the exits beside it."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from torch import nn

from kdcache.cache.networks.network import Network
from kdcache.cache.networks.run import load_run_network
from kdcache.cache.networks.run_card import RunCard, read_run_card, save_run_network
from kdcache.trainer.steps.contract import Export
from kdcache.trainer.stream.run_source import RunSource
from kdcache.trainer.students.contract import deployed_of
from kdcache.trainer.students.exit_file import exits_beside
from kdcache.trainer.students.exits import Exits


def network_of(student: nn.Module) -> Network:
    """The network to judge and to export: of several students the deployed one."""
    network = deployed_of(student)
    assert isinstance(network, Network)
    return network


def exporter(run_source: RunSource) -> Export:
    """Writes `student.safetensors` and `network.json`; without a network only the card's metrics change."""

    def export(run_dir: Path, network: nn.Module | None, metrics: Mapping[str, float]) -> None:
        student = load_run_network(run_dir) if network is None else network_of(network)
        old = read_run_card(run_dir) if network is None else None
        card = RunCard(
            network=student.config.to_dict(),
            data=run_source.spec,
            class_names=run_source.class_names,
            crop=run_source.crop,
            output_stride=student.output_stride,
            weights_digest=old.weights_digest if old else "",
            metrics=dict(metrics),
        )
        save_run_network(run_dir, student, card)

    return export


def in_any_form(export: Export) -> Export:
    """`export` of a plain network, for students of any form."""

    def run(run_dir: Path, student: nn.Module | None, metrics: Mapping[str, float]) -> None:
        exits: AbstractContextManager[None] = nullcontext()
        if isinstance(student, Exits):
            state, count = student.exits.state_dict(), len(student.exits)
            exits = exits_beside(run_dir, student.deployed, state, form=student.form, count=count)
        with exits:
            export(run_dir, None if student is None else deployed_of(student), metrics)

    return run
