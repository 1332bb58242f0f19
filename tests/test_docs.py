"""Documents that stay true: options and files that they name exist, and the examples of docs/own.md work."""

import re
import sys
from pathlib import Path

import click
import pytest
import torch

from kdcache.cache.codecs.table import make_codec
from kdcache.cache.errors import BadSample
from kdcache.cache.networks.build import build_network
from kdcache.cache.spec import TensorSpec
from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.cli.kdcache import main as kdcache
from kdcache.cli.kdtrain import kdtrain
from kdcache.losses.plan.plan import LossPlan, parse_losses
from kdcache.losses.step_inputs import StepInputs

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    *(f"docs/{p.name}" for p in sorted((ROOT / "docs").glob("*.md"))),
]
# Those on figures also name options of the scripts that made them.
ABOUT_COMMANDS = [d for d in DOCUMENTS if d not in ("docs/benchmarks.md", "docs/results.md")]
FOREIGN = {  # of torchrun, accelerate, pytest, mypy and benchmarks/mutants.py
    "--nproc-per-node", "--num_processes", "--cpu", "--golden", "--strict", "--only", "--cold",
}  # fmt: skip


def options_of(command: click.Command) -> set[str]:
    return {name for p in command.params for name in (*p.opts, *p.secondary_opts)} | {"--help"}


COMMANDS = {
    **{f"kdcache {name}": options_of(command) for name, command in kdcache.commands.items()},
    "kdtrain": options_of(kdtrain),
    **{f"kdtrain {name}": options_of(command) for name, command in kdtrain.commands.items()},
}


@pytest.mark.parametrize(
    "document",
    ["README.md", *(f"docs/{n}.md" for n in ("own", "training", "methods", "sweeps", "report", "export"))],
)
def test_every_command_in_a_document_takes_the_options_that_stand_behind_it(document: str) -> None:
    commands = "|".join(sorted(COMMANDS, key=len, reverse=True))
    found = re.findall(rf"({commands})\b([^`#|\n]*)", (ROOT / document).read_text())
    assert found
    for command, rest in found:
        assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", rest)) <= COMMANDS[command], f"{command}{rest}"


@pytest.mark.parametrize("document", ABOUT_COMMANDS)
def test_every_option_that_a_document_names_exists(document: str) -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", (ROOT / document).read_text()))
    assert named <= set().union(*COMMANDS.values()) | FOREIGN


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_to_a_file(document: str) -> None:
    text = (ROOT / document).read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if not link.startswith("http")]
    assert [link for link in links if not (ROOT / document).parent.joinpath(link).exists()] == []


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The Python blocks of docs/own.md as files; those without a name in their first line as my_source.py."""
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "own.md").read_text(), re.DOTALL):
        name = re.match(r"# (\w+\.py)\n", block)
        (tmp_path / (name[1] if name else "my_source.py")).write_text(block)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


@pytest.mark.parametrize("name", ["my_networks:teacher", "my_networks:student"])
def test_the_example_networks_have_the_taps_that_they_announce(examples: Path, name: str) -> None:
    network = build_network(name, task=SEGMENTATION, num_classes=2)
    maps = network(torch.zeros(1, 10, 14, 3, dtype=torch.uint8), ["stage4", "logits"])
    assert maps["logits"].shape == (1, 2, 3, 4) and maps["stage4"].shape[2:] == (3, 4)


@pytest.mark.parametrize(
    ("expression", "need"),
    [("my_losses:Cosine(power=2,weight=3)", "stage4"), ("my_attention:Attention", "stage4.attention")],
)
def test_the_example_losses_give_a_gradient(examples: Path, expression: str, need: str) -> None:
    plan: LossPlan = parse_losses(f"{expression}+task(weight=0)", preset=None, task=SEGMENTATION)
    assert [n.name for n in plan.needs] == [need]
    channels = 1 if need.endswith("attention") else 6
    losses = plan.build(
        student={"stage4": TensorSpec((3, 4, 5), 4)}, teacher={need: TensorSpec((3, 4, channels), 4)}
    )
    student = torch.randn(2, 5, 3, 4, requires_grad=True)
    teacher = {need: torch.randn(2, channels, 3, 4)}
    labels = torch.zeros(2, 12, 16, dtype=torch.int64)
    losses(StepInputs({"stage4": student}, teacher, labels, torch.Generator(), 0, 0)).total.backward()
    assert student.grad is not None and bool((student.grad != 0).any())


def test_the_example_codec_keeps_its_bound(examples: Path) -> None:
    codec = make_codec("my_codecs:BFloat16", may_import=True)
    value = torch.randn(2, 5, 3, 4) * 1000
    parts = {name: torch.from_numpy(part) for name, part in codec.encode(value).items()}
    assert parts["values"].shape[1:] == codec.parts(TensorSpec((3, 4, 5), 8))["values"].shape
    assert bool(((codec.decode(parts) - value).abs() <= codec.bound(value)).all())
    window = {"values": parts["values"][:, 1:3, 1:4]}
    assert torch.equal(codec.decode(window), codec.decode(parts)[:, :, 1:3, 1:4])


def test_the_example_source_maps_its_labels(examples: Path) -> None:
    import numpy as np
    from PIL import Image

    for kind in ("images", "labels"):
        (examples / "streets" / "train" / kind).mkdir(parents=True)
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(examples / "streets/train/images/a.jpg")
    Image.fromarray(np.array([[0, 7, 8]] * 4, np.uint8).repeat(2, 1)).save(
        examples / "streets/train/labels/a.png"
    )
    from my_source import Streets

    source = Streets(examples / "streets", "train")
    assert source.check(0) == (4, 6)
    Image.fromarray(np.full((4, 6), 9, np.uint8)).save(examples / "streets/train/labels/a.png")
    with pytest.raises(BadSample, match="outside the class map: 9"):
        source.check(0)


def test_the_loss_that_contributing_shows_is_whole_and_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert len([line for line in block.splitlines() if line.strip()]) <= 15
    (tmp_path / "my_contribution.py").write_text(block)
    monkeypatch.syspath_prepend(str(tmp_path))
    plan = parse_losses("my_contribution:Gap(weight=2)+task(weight=0)", preset=None, task="classification")
    size = {"logits": TensorSpec((3,), 0)}
    losses = plan.build(student=size, teacher=size).double()
    teacher, labels = torch.randn(4, 3, dtype=torch.float64), torch.zeros(4, dtype=torch.int64)

    def total(student: torch.Tensor) -> torch.Tensor:
        inputs = StepInputs({"logits": student}, {"logits": teacher}, labels, torch.Generator(), 0, 0)
        return losses(inputs).total

    student = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.allclose(total(student), 2 * (student - teacher).square().mean())
    assert torch.autograd.gradcheck(total, (student,))
    sys.modules.pop("my_contribution")
