"""'package.module:Class:DIR': which class is meant, what is refused, and that errors point at its lines."""

import io
import sys
from pathlib import Path

import numpy as np
import own_data
import pytest
from PIL import Image

from kdcache.cache.errors import BadOption, BadSample, Missing
from kdcache.cache.sources.table import open_source, own_name, split_spec, splits
from kdcache.cache.trust import consent

MODULE = """import json
from own_data import Streets as _Streets
from kdcache.cache.sources.contract import BaseSource, FileSource

NOT_A_CLASS = 3

class Half(FileSource):
    class_names = ("a",)

class Failing(_Streets):
    def image_bytes(self, index):
        return self.secret[index]

class Deep(_Streets):
    def size(self, index):
        return json.loads("{")

class Dividing(_Streets):
    def __init__(self, root, split):
        super().__init__(root, split)
        1 / 0

class Listing(_Streets):
    @classmethod
    def trees(cls, root):
        return {"train": root["train"]}

class Remarking(_Streets):
    @property
    def notes(self):
        raise RuntimeError("no remark\\nof two lines")

class Unnamed(_Streets):
    class_names = ()

class Twice(_Streets):
    class_names = ("sky", "sky", "thing")

class Flat(_Streets):
    default_crop = 48

class Equal(_Streets):
    def __init__(self, root, split):
        super().__init__(root, split)
        self.keys = ["a", "a"]

class Strange(_Streets):
    task = "poetry"

class Labelled(_Streets):
    @property
    def label(self):
        return "mine"
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Drawn data in 'drawn', and a module 'half_made' that may be imported."""
    (tmp_path / "half_made.py").write_text(MODULE)
    (tmp_path / "torn_made.py").write_text("x = 1\ny = = 2\n")
    (tmp_path / "lacking_made.py").write_text("import not_installed_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("half_made", "torn_made", "lacking_made"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return own_data.draw(tmp_path / "drawn")


def opened(spec: str) -> object:
    with consent([own_name(spec)]):
        return open_source(spec, "train")


def line_of(text: str) -> int:
    return MODULE.splitlines().index(text) + 1


def test_values_and_names_are_those_that_the_class_says(root: Path) -> None:
    with consent(["own_data"]):
        source = open_source(f"own_data:Streets:{root}", "train")
        assert splits(f"own_data:Streets:{root}") == ("train", "val")
    assert source.name == "own_data:Streets" and source.describe()["name"] == "own_data:Streets"
    assert source.label == "drawn" and source.root == root
    stored = np.asarray(Image.open(root / "train-masks/p0.png"))
    said = np.asarray(Image.open(io.BytesIO(source.label_bytes(0))))
    expected = [[{10: 0, 20: 1, 30: 2, 0: 255}[int(v)] for v in row] for row in stored]
    assert said.tolist() == expected


def test_a_label_of_its_own_is_kept(root: Path) -> None:
    assert opened(f"half_made:Labelled:{root}").label == "mine"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("camvid:a:b", ("camvid", "a:b")),
        ("folder:streets:x", ("folder", "streets:x")),
        ("my.data:Streets:/a:b", ("my.data:Streets", "/a:b")),
        ("mine:Streets", ("mine", "Streets")),
        ("mine:Streets:", ("mine:Streets", "")),
        ("demo", ("demo", "")),
        ("http://x:y", ("http", "//x:y")),
    ],
)
def test_which_part_is_a_name_and_which_a_folder(spec: str, parts: tuple[str, str]) -> None:
    assert split_spec(spec) == parts


def test_code_that_nobody_named_is_not_imported(root: Path) -> None:
    with pytest.raises(BadOption, match="'half_made:Failing': code of somebody's own") as caught:
        open_source(f"half_made:Failing:{root}", "train")
    assert "half_made" not in sys.modules and "half_made:Failing" in caught.value.fix


@pytest.mark.parametrize(
    ("spec", "what", "fix"),
    [
        ("nowhere_made:Streets:{}", "there is no module 'nowhere_made' to import", "PYTHONPATH"),
        ("lacking_made:Streets:{}", "the module imports 'not_installed_anywhere'", "install it"),
        (
            "half_made:Failling:{}",
            "unknown class of module 'half_made' 'Failling'",
            "did you mean 'Failing'?",
        ),
        ("half_made:NOT_A_CLASS:{}", "'half_made:NOT_A_CLASS' is not a class of a source", "FileSource"),
        ("half_made:Half:{}", "'Half' lacks class_map_of, trees, layout", "docs/own.md"),
        ("half_made:Unnamed:{}", "of a source class_names is ()", "a tuple of names"),
        ("half_made:Twice:{}", "of a source class_names holds a name twice", "its own"),
        ("half_made:Flat:{}", "of a source default_crop is 48", "(height, width) in pixels"),
        ("half_made:Equal:{}", "of a source keys are absent, or two are equal", "name of its own"),
        ("half_made:Strange:{}", "unknown task 'poetry'", "legal: "),
        ("half_made:Labelled:", "'half_made:Labelled' needs a folder", "write 'half_made:Labelled:DIR'"),
    ],
)
def test_a_source_that_cannot_be_one_is_refused(root: Path, spec: str, what: str, fix: str) -> None:
    with pytest.raises(BadOption) as caught:
        opened(spec.format(root))
    assert what in caught.value.what and fix in caught.value.fix


@pytest.mark.parametrize(
    ("name", "what", "line"),
    [
        ("Failing", "Failing.image_bytes failed: AttributeError: ", "        return self.secret[index]"),
        ("Deep", "Deep.size failed: JSONDecodeError: ", '        return json.loads("{")'),
        ("Dividing", "Dividing.__init__ failed: ZeroDivisionError: division by zero", "        1 / 0"),
        ("Listing", "Listing.splits_in failed: TypeError: ", '        return {"train": root["train"]}'),
        (
            "Remarking",
            "Remarking.notes failed: RuntimeError: no remark",
            '        raise RuntimeError("no remark\\nof two lines")',
        ),
    ],
)
def test_what_its_code_raises_points_at_its_line(root: Path, name: str, what: str, line: str) -> None:
    with pytest.raises(BadOption) as caught:
        source = opened(f"half_made:{name}:{root}")
        {
            "Failing": lambda: source.image_bytes(0),  # type: ignore[attr-defined]
            "Deep": lambda: source.size(0),  # type: ignore[attr-defined]
            "Remarking": lambda: source.notes,  # type: ignore[attr-defined]
        }[name]()
    assert caught.value.what.startswith(what) and "\n" not in caught.value.what
    number = line_of(line.replace("\n", "\\n"))
    assert caught.value.where == f"{root.parent / 'half_made.py'}:{number}"


def test_a_module_that_is_no_python_names_the_line(root: Path) -> None:
    with pytest.raises(BadOption, match="importing 'torn_made' failed: SyntaxError") as caught:
        opened(f"torn_made:Streets:{root}")
    assert caught.value.where == f"{root.parent / 'torn_made.py'}:2"


def test_errors_of_kdcache_pass_as_they_are(root: Path) -> None:
    Image.new("L", (96, 64), 99).save(root / "train-masks/p0.png")
    with consent(["own_data"]):
        source = open_source(f"own_data:Streets:{root}", "train")
        with pytest.raises(BadSample, match="outside the class map: 99"):
            source.check(0)
        with pytest.raises(Missing, match="own_data:Streets has no split 'test'"):
            open_source(f"own_data:Streets:{root}", "test")
        with pytest.raises(Missing, match="no own_data:Streets images: the folder does not exist") as caught:
            open_source(f"own_data:Streets:{root}/gone", "train")
    assert "{train,val}-masks/*.png" in caught.value.fix
