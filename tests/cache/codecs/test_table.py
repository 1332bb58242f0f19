"""Codecs by name: the table, codecs of one's own, and that a cache cannot import code."""

import sys
from pathlib import Path

import pytest

from kdcache.cache.codecs.table import CODECS, default_codec, make_codec
from kdcache.cache.errors import BadOption
from kdcache.cache.spec import TensorSpec
from kdcache.cache.trust import consent

OWN = """
from kdcache.cache.codecs.raw import Raw
(__import__("pathlib").Path(__file__).parent / "imported").touch()
class Mine(Raw):
    name = "NAME:Mine"
    def __init__(self): super().__init__("float32")
class Misnamed:
    name = "other"
    parts = encode = decode = bound = lambda self: None
class Nothing: pass
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"codec_of_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(OWN.replace("NAME", name))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


def test_every_codec_of_the_table_can_be_made() -> None:
    assert {name: make_codec(name).name for name in CODECS} == {
        "int8": "int8", "fp16": "fp16", "fp32": "fp32", "raw": "fp16",
    }  # fmt: skip


def test_an_unknown_codec_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(BadOption) as caught:
        make_codec("in8")
    assert "unknown codec 'in8'" in caught.value.what
    assert "did you mean 'int8'?" in caught.value.fix and "package.module:Class" in caught.value.fix


def test_a_codec_of_ones_own_is_made_when_the_user_names_it(own: str) -> None:
    assert make_codec(f"{own}:Mine", may_import=True).name == f"{own}:Mine"


def test_a_name_from_a_cache_imports_nothing(own: str, tmp_path: Path) -> None:
    with pytest.raises(BadOption) as caught:
        make_codec(f"{own}:Mine")
    assert "code of somebody's own, named in a file" in caught.value.what
    assert f"--trust {own}:Mine" in caught.value.fix
    assert own not in sys.modules and not (tmp_path / "imported").exists()


@pytest.mark.parametrize("said", ["{}", "{}:Mine", "{}:other"])
def test_a_module_that_is_trusted_is_imported(own: str, said: str) -> None:
    with consent([said.format(own)]):
        assert make_codec(f"{own}:Mine").name == f"{own}:Mine"


def test_a_codec_that_cannot_be_found_again_is_refused(own: str) -> None:
    with pytest.raises(BadOption, match="calls itself 'other'"):
        make_codec(f"{own}:Misnamed", may_import=True)


def test_a_class_that_is_no_codec_is_refused(own: str) -> None:
    with pytest.raises(BadOption, match="is not a codec"):
        make_codec(f"{own}:Nothing", may_import=True)


@pytest.mark.parametrize("name", ["no_such_module:Mine", "json:NoSuchClass"])
def test_a_misspelt_codec_of_ones_own_says_what_failed(name: str) -> None:
    with pytest.raises(BadOption, match="cannot be loaded") as caught:
        make_codec(name, may_import=True)
    assert "spelling" in caught.value.fix


@pytest.mark.parametrize(
    ("tap", "shape", "codec"),
    [
        ("stage4", (45, 60, 512), "int8"), ("logits", (45, 60, 19), "fp16"), ("logits", (45, 60, 32), "fp16"),
        ("logits", (45, 60, 33), "int8"), ("logits", (1000,), "fp16"), ("stage4", (512,), "fp16"),
        ("stage1", (45, 60, 16), "int8"),
    ],
)  # fmt: skip
def test_the_default_codec_is_the_one_that_was_measured(tap: str, shape: tuple[int, ...], codec: str) -> None:
    assert default_codec(tap, TensorSpec(shape, 8 if len(shape) == 3 else 0)) == codec
