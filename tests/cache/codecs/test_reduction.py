"""Reductions by name: found, refused where a cache would import code, and what they make of a map."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kdcache.cache.codecs.reduction import load_reduction, reduced_spec
from kdcache.cache.errors import BadOption
from kdcache.cache.spec import TensorSpec
from kdcache.cache.trust import consent

OWN = """
(__import__("pathlib").Path(__file__).parent / "imported").touch()
pooled = lambda value: value.mean((2, 3))
halved = lambda value: value[:, :, ::2, ::2]
summed = lambda value: value.sum(1, keepdim=True)
"""
MAP = TensorSpec((4, 6, 5), 8)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"reductions_of_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


def test_a_reduction_of_ones_own_is_found_when_the_user_names_it(own: str) -> None:
    value: Tensor = load_reduction(f"{own}:pooled")(torch.ones(2, 3, 4, 4))
    assert value.shape == (2, 3)


def test_a_name_from_a_cache_imports_nothing(own: str, tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="code of somebody's own, named in a file") as caught:
        load_reduction(f"{own}:pooled", may_import=False)
    assert own not in sys.modules and not (tmp_path / "imported").exists()
    assert f"--trust {own}:pooled" in caught.value.fix
    with consent([f"{own}:pooled"]):
        load_reduction(f"{own}:pooled", may_import=False)
    with pytest.raises(BadOption):  # that it is loaded already is no consent
        load_reduction(f"{own}:pooled", may_import=False)


@pytest.mark.parametrize("path", ["no_such_module:f", "json:no_such_function", "json", ""])
def test_a_reduction_that_is_not_there_is_named(path: str) -> None:
    with pytest.raises(BadOption, match=f"the reduction '{path}' cannot be found") as caught:
        load_reduction(path)
    assert "package.module:function" in caught.value.fix


def test_the_spec_of_what_is_kept_follows_from_the_function(own: str) -> None:
    assert reduced_spec(f"{own}:pooled", MAP) == TensorSpec((5,), 0)
    assert reduced_spec(f"{own}:summed", MAP) == TensorSpec((4, 6, 1), 8)


def test_a_reduction_that_changes_the_size_of_a_map_is_refused(own: str) -> None:
    with pytest.raises(BadOption, match=r"changes the map from \(4, 6\) to \(2, 3\) cells"):
        reduced_spec(f"{own}:halved", MAP)


def test_a_file_does_not_reach_through_our_modules_to_what_they_import() -> None:
    with pytest.raises(BadOption, match="cannot be found: the module only imports it"):
        load_reduction("kdcache.losses.plan.load:import_named", may_import=False)
