"""Pretrained weights by tag: from `$KDCACHE_WEIGHTS`, else from the timm hub and torchvision; a failed
download says which file to put where."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Thread
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import timm
import torch
import torchvision
from huggingface_hub import constants
from torch import Tensor

from kdcache.cache.errors import BadOption, BadWeights, unknown
from kdcache.cache.networks.families.timm import check_tag, statistics
from kdcache.cache.networks.files.weights_file import WeightsFile
from kdcache.cache.networks.files.weights_folder import how_to_put, name_of, own_weights, timm_files
from kdcache.cache.networks.names import (
    CIFAR,
    CUSTOM,
    SAME,
    TORCHVISION,
    TORCHVISION_NETWORKS,
    NetworkName,
)

ANSWER_S = 5.0  # seconds until a server that does not answer is given up
FIRST_OF_SERVER = 500  # statuses of HTTP from here on: the server cannot
IMAGENET = "imagenet"  # the weights that timm takes by default for the architecture


def download(name: NetworkName, tag: str, num_classes: int, *, fresh_head: bool = False) -> WeightsFile:
    """Weights named by a tag. `fresh_head`: the last layer may stay in the file. Raises BadWeights when they
    cannot be had, BadOption when there are none."""
    if name.family == TORCHVISION:
        return _torchvision(name, tag, num_classes, fresh_head)
    if name.family in (CUSTOM, CIFAR):
        whose = "a network of yours" if name.family == CUSTOM else "a CIFAR network"
        inside = ", or load them inside the factory" if name.family == CUSTOM else ", or --weights none"
        raise BadOption(
            f"'{tag}' is no file, and {whose} has no pretrained tags",
            where=f"weights of {name}",
            fix=f"pass --weights FILE.safetensors{inside}",
        )
    _refuse_whole(name, tag)
    timm_name = name.body.removesuffix(SAME)
    if tag != IMAGENET:
        timm_name = f"{timm_name.partition('.')[0]}.{tag}"
        check_tag(timm_name)
    mean, std = statistics(timm_name)
    files = timm_files(timm_name, default=tag == IMAGENET)
    if own := own_weights(files):
        return replace(_as_timm_reads(own, timm_name), mean=own.mean or mean, std=own.std or std)
    state = _fetch(lambda: _from_hub(timm_name), tag, name, files)
    return WeightsFile(state=state, mean=mean, std=std, origin=f"{timm_name} of the timm hub")


def _as_timm_reads(file: WeightsFile, timm_name: str) -> WeightsFile:
    """With the names of now, where timm knows how to turn older ones into them; else as the file has it, and
    whoever fits it into a network says what is wrong."""
    overlay = {"state_dict": dict(file.state)}
    try:
        network = timm.create_model(timm_name, pretrained=True, pretrained_cfg_overlay=overlay)
    except Exception:  # conversions of strange names fail in many ways
        return file
    return replace(file, state=dict(network.state_dict()))


def _refuse_whole(name: NetworkName, tag: str) -> None:
    """Raises BadOption where the tag is of torchvision's whole networks, and an encoder's was asked for."""
    owners = [body for body, own in TORCHVISION_NETWORKS.items() if own.tag == tag]
    if owners:
        owner = next((body for body in owners if body.startswith(f"{name.family}_")), owners[0])
        raise BadOption(
            f"'{tag}' names weights of whole networks of torchvision, and {name} takes those of its encoder",
            where=f"weights of {name}",
            fix=f"take --student {TORCHVISION}:{owner} --weights {tag}, or --weights {IMAGENET}",
        )


def _torchvision(name: NetworkName, tag: str, num_classes: int, fresh_head: bool) -> WeightsFile:
    available = torchvision.models.get_model_weights(name.body)
    if tag not in available.__members__:
        raise unknown("weights tag", tag, available.__members__, where=f"pretrained weights of {name}")
    own = TORCHVISION_NETWORKS[name.body]
    if num_classes != own.num_classes and not (fresh_head and own.head_alone):
        raise BadOption(
            f"{name} was trained for the {own.num_classes} classes of {own.classes}, not for {num_classes}",
            where=f"weights of {name}",
            fix=f"use it with --data {own.example_data}:DIR, or pass weights of your own with --weights FILE",
        )
    weights = available[tag]
    files = (name_of(weights.url),)
    if own_file := own_weights(files):
        return own_file

    def read() -> dict[str, Tensor]:
        file = Path(torch.hub.get_dir()) / "checkpoints" / files[0]
        if not file.is_file():
            _require_answer(weights.url)
        return dict(weights.get_state_dict(progress=False, check_hash=True))

    state = _fetch(read, tag, name, files)
    return WeightsFile(state=state, origin=f"{tag} of torchvision")


def _from_hub(timm_name: str) -> dict[str, Tensor]:
    """From the hub, or from what was fetched from it before. The hub's own client asks six times for every
    file, with pauses, before it looks at what it has: a hub that does not answer at once is not asked."""
    before = constants.HF_HUB_OFFLINE
    try:
        _require_answer(constants.ENDPOINT)
    except OSError as silence:
        constants.HF_HUB_OFFLINE = True
        try:
            return dict(timm.create_model(timm_name, pretrained=True).state_dict())
        except Exception:  # what is missing from the client's folder has many errors; the cause is one
            raise silence from None
        finally:
            constants.HF_HUB_OFFLINE = before
    return dict(timm.create_model(timm_name, pretrained=True).state_dict())


def _require_answer(url: str) -> None:
    """Raises OSError where no server answers in ANSWER_S seconds; any answer will do, also a refusal, but not
    that the server cannot."""
    failures: list[OSError] = []

    def ask() -> None:
        try:
            with urlopen(Request(url, method="HEAD"), timeout=ANSWER_S):
                return
        except HTTPError as answer:
            if answer.code < FIRST_OF_SERVER:
                return
            failures.append(answer)  # a gate in between: the hub's client would ask it again and again
        except OSError as failure:
            failures.append(failure)

    # In a thread: looking a name up has a patience of its own that no timeout of urlopen ends.
    asking = Thread(target=ask, daemon=True)
    asking.start()
    asking.join(ANSWER_S + 1)
    host = urlsplit(url).hostname
    if asking.is_alive():
        raise OSError(f"{host} does not answer")
    if failures:
        raise OSError(f"{host} cannot be reached: {getattr(failures[0], 'reason', failures[0])}")


def _fetch(
    read: Callable[[], dict[str, Tensor]], tag: str, name: NetworkName, files: Sequence[str]
) -> dict[str, Tensor]:
    try:
        return read()
    except Exception as failure:  # the hub's errors have no common parent: HTTP, DNS, cache, offline mode
        reason = (str(failure).splitlines() or [type(failure).__name__])[0]
        raise BadWeights(
            f"pretrained weights '{tag}' could not be downloaded: {reason}",
            where=f"weights of {name}",
            fix=f"{how_to_put(files)}; or pass a file: --weights FILE.safetensors (or .pt), or "
            "--weights none for random ones",
        ) from failure
