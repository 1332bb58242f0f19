"""The same weights in every wrapper that training leaves them in: one identity, and what was taken off is
said. What is ambiguous is refused with the words that settle it; a pickle with classes, with the line that
turns it into tensors."""

import argparse
import copy
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from plain_weights import save_file
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from kdcache.cache.errors import BadWeights
from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.files.unwrapping import choose_names, unwrap
from kdcache.cache.networks.files.weights_file import read_weights
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.resolve import resolve_teacher
from kdcache.cache.networks.weights import weights_digest

State = dict[str, Tensor]


def build(name: str, weights: Path | str | None = None) -> Network:
    return build_network(
        name, task="segmentation", num_classes=5, weights=None if weights is None else str(weights)
    )


def other(model: nn.Module) -> State:
    return {name: tensor + 1 for name, tensor in model.state_dict().items()}


def under(prefix: str, state: State, **more: Tensor) -> State:
    foreign = {name.replace("__", "."): tensor for name, tensor in more.items()}
    return {**{f"{prefix}{name}": tensor for name, tensor in state.items()}, **foreign}


def inner_compiled(model: nn.Module) -> State:
    model = copy.deepcopy(model)
    model.body = torch.compile(model.body)
    return dict(model.state_dict())


def with_optimizer(model: nn.Module) -> dict[str, object]:
    """As torch's own tutorial writes it, with momentum."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return {
        "epoch": 3,
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
    }


def lightning(prefix: str) -> Callable[[nn.Module], object]:
    def checkpoint(model: nn.Module) -> object:
        foreign = {"criterion__weight": torch.ones(5), "loss_fn__pos_weight": torch.ones(5)}
        return {
            "state_dict": under(prefix, dict(model.state_dict()), **foreign),
            "hyper_parameters": {"lr": 0.1, "table": {"head.weight": torch.ones(1)}},
            "optimizer_states": [{"state": {0: {"step": torch.ones(1)}}}],
            "loops": {"fit_loop": {"state_dict": {}}},
        }

    return checkpoint


WRAPPED: dict[str, tuple[Callable[[nn.Module], object], str]] = {
    "AveragedModel": (lambda m: AveragedModel(m).state_dict(), "without 'n_averaged'; without 'module.'"),
    "DataParallel": (lambda m: nn.DataParallel(m).state_dict(), "without 'module.'"),
    "compile": (lambda m: torch.compile(m).state_dict(), "without '_orig_mod.'"),
    "compiled inside": (inner_compiled, "without '_orig_mod.'"),
    "compiled and parallel": (
        lambda m: nn.DataParallel(torch.compile(m)).state_dict(),
        "without '_orig_mod.'; without 'module.'",
    ),
    "ModelEmaV3": (lambda m: ModelEmaV3(m).state_dict(), "without 'module.'"),
    "torchvision's model_ema": (
        lambda m: {
            "model": other(m),
            "model_ema": AveragedModel(nn.DataParallel(m)).state_dict(),
            "epoch": 1,
        },
        "'model_ema' of it, not 'model': FILE#KEY takes another; without 'n_averaged'; without 'module.'",
    ),
    "timm's state_dict_ema": (
        lambda m: {"state_dict": other(m), "state_dict_ema": m.state_dict(), "arch": "tiny"},
        "'state_dict_ema' of it, not 'state_dict': FILE#KEY takes another",
    ),
    "net": (lambda m: {"net": m.state_dict(), "acc": 93.1}, "'net' of it"),
    "model_state_dict": (with_optimizer, "'model_state_dict' of it"),
    "a word of one's own": (lambda m: {"my_net": m.state_dict(), "epoch": 2}, "'my_net' of it"),
    "two deep": (lambda m: {"model": {"state_dict": m.state_dict()}}, "'model' of it; 'state_dict' of it"),
    "Lightning model": (
        lightning("model."),
        "'state_dict' of it; left out criterion, loss_fn",
    ),
    "Lightning net": (
        lightning("net."),
        "'state_dict' of it; names under 'net.'; left out criterion, loss_fn",
    ),
    "Lightning, compiled": (
        lightning("net._orig_mod."),
        "'state_dict' of it; without '_orig_mod.'; names under 'net.'; left out criterion, loss_fn",
    ),
    "bare beside a loss": (
        lambda m: under("", dict(m.state_dict()), criterion__weight=torch.ones(5)),
        "left out criterion",
    ),
    "bare beside a number": (lambda m: {**m.state_dict(), "epoch": 7}, "left out epoch"),
    "twice the same": (
        lambda m: under("net.", dict(m.state_dict()), **under("compiled._orig_mod.", dict(m.state_dict()))),
        "without '_orig_mod.'; names under 'net.'; left out compiled",
    ),
}


@pytest.mark.parametrize("case", list(WRAPPED))
def test_wrapped_weights_have_the_identity_of_the_bare_file(
    tiny_name: str, tmp_path: Path, case: str
) -> None:
    wrap, said = WRAPPED[case]
    first = build(tiny_name)
    bare = first.model.state_dict()
    torch.save(bare, tmp_path / "bare.pt")
    torch.save(wrap(first.model), tmp_path / "wrapped.pt")
    torch.manual_seed(1)
    plain, wrapped = build(tiny_name, tmp_path / "bare.pt"), build(tiny_name, tmp_path / "wrapped.pt")
    assert weights_digest(wrapped) == weights_digest(plain) == weights_digest(first)
    assert wrapped.trained_head
    assert plain.weights_peeled == ()
    assert "; ".join(wrapped.weights_peeled) == said


@pytest.mark.parametrize("case", ["AveragedModel", "compiled inside", "DataParallel"])
def test_a_wrapped_classifier_of_timm_in_safetensors_too(tmp_path: Path, case: str) -> None:
    torch.manual_seed(0)
    bare = timm.create_model("test_resnet", num_classes=5)
    wrapped = {
        "AveragedModel": AveragedModel(bare),
        "compiled inside": copy.deepcopy(bare),
        "DataParallel": nn.DataParallel(bare),
    }[case]
    if case == "compiled inside":
        wrapped.layer2 = torch.compile(wrapped.layer2)
    save_file(bare.state_dict(), tmp_path / "bare.safetensors")
    save_file(wrapped.state_dict(), tmp_path / "wrapped.safetensors")
    digests = set()
    for file in ("bare.safetensors", "wrapped.safetensors"):
        network = build_network(
            "timm:test_resnet", task="classification", num_classes=5, weights=str(tmp_path / file)
        )
        assert network.trained_head
        digests.add(weights_digest(network))
    assert len(digests) == 1


def test_a_part_of_a_checkpoint_is_taken_by_its_key(tiny_name: str, tmp_path: Path) -> None:
    first = build(tiny_name)
    torch.save({"model": first.model.state_dict(), "model_ema": other(first.model)}, tmp_path / "both.pt")
    averaged = build(tiny_name, tmp_path / "both.pt")
    plain = build(tiny_name, f"{tmp_path / 'both.pt'}#model")
    assert weights_digest(plain) == weights_digest(first) != weights_digest(averaged)
    assert plain.weights_peeled == ("'model' of it",)
    state = {
        **under("student.", dict(first.model.state_dict())),
        **under("teacher.", other(first.model)),
    }
    torch.save({"state_dict": state}, tmp_path / "pair.ckpt")
    named = build(tiny_name, f"{tmp_path / 'pair.ckpt'}#teacher")
    assert weights_digest(named) == weights_digest(averaged)
    assert named.weights_peeled == ("'state_dict' of it", "names under 'teacher.'")


def test_a_file_whose_own_name_has_the_mark_is_that_file(tiny_name: str, tmp_path: Path) -> None:
    first = build(tiny_name)
    torch.save(first.model.state_dict(), tmp_path / "run#3.pt")
    assert weights_digest(build(tiny_name, tmp_path / "run#3.pt")) == weights_digest(first)


def test_two_networks_that_fit_are_not_guessed(tiny_name: str, tmp_path: Path) -> None:
    model = build(tiny_name).model
    path = tmp_path / "pair.ckpt"
    torch.save({**under("student.", dict(model.state_dict())), **under("teacher.", other(model))}, path)
    with pytest.raises(BadWeights) as caught:
        build(tiny_name, path)
    assert str(caught.value) == (
        "several networks that fit lie in the file, with different weights: student, teacher\n"
        f"  where: {path}\n"
        f"  fix:   name the one that is meant: --weights '{path}#student'"
    )
    build(tiny_name, f"{path}#student")


def test_two_unknown_parts_are_not_guessed(tiny_name: str, tmp_path: Path) -> None:
    model, path = build(tiny_name).model, tmp_path / "pair.pt"
    torch.save({"big": model.state_dict(), "small": other(model)}, path)
    with pytest.raises(BadWeights) as caught:
        build(tiny_name, path)
    assert str(caught.value) == (
        "several networks inside: big, small\n"
        f"  where: {path}\n"
        f"  fix:   name the one that is meant: --weights '{path}#big'"
    )
    build(tiny_name, f"{path}#big")
    with pytest.raises(BadWeights, match="no part 'bog' inside: big, small"):
        build(tiny_name, f"{path}#bog")


def test_a_key_that_is_not_there_lists_what_is(tiny_name: str, tmp_path: Path) -> None:
    path = tmp_path / "bare.pt"
    torch.save(build(tiny_name).model.state_dict(), path)
    with pytest.raises(BadWeights) as caught:
        build(tiny_name, f"{path}#ema")
    assert str(caught.value) == (
        "nothing in the file is called 'ema'\n"
        f"  where: --weights '{path}#ema'\n"
        "  fix:   leave '#ema' out, or name one of: stem, body, head"
    )


def test_names_are_not_peeled_where_that_brings_nothing_home() -> None:
    own = {"encoder.a": torch.zeros(1), "encoder.b": torch.zeros(1), "decoder.c": torch.zeros(1)}

    def score(state: object) -> int:
        return len(own.keys() & set(state))  # type: ignore[call-overload]

    assert choose_names(own, score, "file") == (own, ())
    strange = {"encoder.a": torch.zeros(1), "encoder.b": torch.zeros(1), "neck.c": torch.zeros(1)}
    assert choose_names(strange, score, "file") == (strange, ()), "left for the fit to refuse"
    half = {f"wrap.{name}": t for name, t in {**strange, "neck.d": own["decoder.c"]}.items()}
    half |= {"wrap.neck.e": own["decoder.c"]}
    assert choose_names(half, score, "file") == (half, ()), "most names below a prefix are foreign"


def test_a_name_that_only_looks_like_a_loss_is_kept_where_the_network_has_it(tmp_path: Path) -> None:
    state = {"loss.weight": torch.ones(1), "other": torch.ones(1)}
    kept, said = choose_names(state, lambda given: len({"loss.weight"} & set(given)), "file")
    assert kept == state and said == ()
    assert unwrap({"loss": torch.ones(1)}, tmp_path)[0].keys() == {"loss"}


def test_the_sentence_about_the_teacher_says_what_was_taken_off(tiny_name: str, tmp_path: Path) -> None:
    path = tmp_path / "ema.pt"
    torch.save({"model_ema": AveragedModel(build(tiny_name).model).state_dict()}, path)
    _, _, line = resolve_teacher(
        tiny_name, tmp_path / "runs", task="segmentation", num_classes=5, weights=str(path)
    )
    assert f"with weights {path} ('model_ema' of it; without 'n_averaged'; without 'module.')" in line


@pytest.mark.parametrize("kind", ["namespace", "module"])
def test_the_line_that_converts_a_refused_pickle_works_when_typed(
    tiny_name: str, tmp_path: Path, kind: str
) -> None:
    first, path = build(tiny_name), tmp_path / "it's a check point.v2.pth"
    whole = nn.Sequential(nn.Linear(3, 2))
    if kind == "namespace":
        options = argparse.Namespace(lr=0.1)
        torch.save({"model": first.model.state_dict(), "args": options, "epoch": 1}, path)
    else:
        torch.save({"model": whole, "args": argparse.Namespace()}, path)
    with pytest.raises(BadWeights) as caught:
        build(tiny_name, path)
    fix = caught.value.fix
    assert ("this line runs nothing of it" in fix) == (kind == "namespace")
    assert ("argparse.Namespace" if kind == "namespace" else "torch.nn.modules") in caught.value.what
    line, made = re.search(r"\): (.*) and then --weights (.*)$", fix, re.DOTALL).groups()  # type: ignore[union-attr]
    assert shlex.split(line)[0] in ("python", sys.executable)
    done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    [converted] = shlex.split(made)
    if kind == "namespace":
        assert weights_digest(build(tiny_name, converted)) == weights_digest(first)
    else:
        assert torch.equal(read_weights(Path(converted)).state["0.weight"], whole[0].weight)
