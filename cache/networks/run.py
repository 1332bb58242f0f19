"""A run folder's network: written by the trainer when a student is the best so far, read to teach or to
evaluate.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from kdcache.cache.networks.build import rebuild
from kdcache.cache.networks.files.weights_file import read_weights
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.network_config import foreign_names
from kdcache.cache.networks.run_card import CARD, STUDENT, read_run_card
from kdcache.cache.networks.weights import fit_weights
from kdcache.cache.tasks.table import task_of
from kdcache.cache.trust import require_trust


def load_run_network(
    run_dir: Path, *, output_stride: int | None = None, taps: Mapping[str, str] | None = None
) -> Network:
    """The best student of a run, in training mode as built. `output_stride` and `taps` override the run's
    own.

    Raises BadOption for code that nobody trusts, Missing for a run without a network, BadWeights for weights
    that are not the ones the run describes.
    """
    config = read_run_card(run_dir).config
    require_trust(foreign_names(config), where=f"{run_dir / CARD}")
    if task_of(config.task).networks.default_stride is None:
        output_stride = None  # such a network's is its own
    config = replace(
        config, output_stride=output_stride or config.output_stride, taps={**config.taps, **(taps or {})}
    )
    network = rebuild(config)
    fit_weights(network, read_weights(run_dir / STUDENT))
    network.trained_head = True
    return network
