"""What a run was computed with, and that it goes on only on the stream that it began with."""

import json
import shlex
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from kdcache.cache.errors import BadCache
from kdcache.trainer.folder.environment import (
    begun_generation,
    describe_environment,
    refuse_other_stream,
    write_environment,
)

STREAM: dict[str, object] = {"views": "stored", "crop": (4, 8), "entries": {"tap/logits": "ab"}}


def test_a_run_goes_on_only_on_what_it_began_with(tmp_path: Path) -> None:
    refuse_other_stream(tmp_path, STREAM)  # of before there was such a file
    write_environment(tmp_path, {}, STREAM)
    refuse_other_stream(tmp_path, dict(STREAM))
    for changed in ({"entries": {"tap/logits": "cd"}}, {"samples": 7}):
        with pytest.raises(BadCache, match=f"{next(iter(changed))} differ") as error:
            refuse_other_stream(tmp_path, STREAM | changed)
        assert error.value.where == str(tmp_path / "environment.json") and "--run NAME" in error.value.fix


def test_labels_that_are_read_otherwise_are_said_apart(tmp_path: Path) -> None:
    write_environment(tmp_path, {}, STREAM)
    refuse_other_stream(tmp_path, STREAM | {"classes": "now"})  # of before the classes were kept
    write_environment(tmp_path, {}, STREAM | {"classes": "then"})
    with pytest.raises(BadCache, match="labels of the data would be read otherwise") as error:
        refuse_other_stream(tmp_path, STREAM | {"classes": "now"})
    assert "list of classes back as it was" in error.value.fix and "--run NAME" in error.value.fix
    with pytest.raises(BadCache, match="classes, samples differ"):
        refuse_other_stream(tmp_path, STREAM | {"classes": "now", "samples": 7})


def test_versions_and_what_changes_bits_are_kept_and_no_path(tmp_path: Path) -> None:
    described = describe_environment(torch.device("cpu"), world=3)
    write_environment(tmp_path, described, STREAM)
    kept = json.loads((tmp_path / "environment.json").read_text())["environment"]
    assert kept["packages"]["torch"] == version("torch") and kept["world"] == 3
    assert kept["torch_threads"] == torch.get_num_threads() and kept["device"] == "cpu"
    assert str(Path.home()) not in json.dumps(kept)


def test_the_generation_that_a_run_began_on_is_what_it_goes_on_with(tmp_path: Path) -> None:
    assert begun_generation(tmp_path) is None, "it has not begun"
    write_environment(tmp_path, {}, STREAM | {"generation": 7})
    assert begun_generation(tmp_path) == 7
    write_environment(tmp_path, {}, STREAM)
    assert begun_generation(tmp_path) is None, "fresh views are of no generation"


@pytest.mark.parametrize("torn", ["", "{", "[]", "{}", '{"stream": []}', "\0", "[" * 100_000])
def test_a_torn_note_is_an_error_and_no_other_beginning(tmp_path: Path, torn: str) -> None:
    (tmp_path / "environment.json").write_text(torn)
    for read in (lambda: begun_generation(tmp_path), lambda: refuse_other_stream(tmp_path, STREAM)):
        with pytest.raises(BadCache, match="what the run began with cannot be read: .") as error:
            read()
        assert error.value.where == str(tmp_path / "environment.json")
    subprocess.run(shlex.split(error.value.fix.rpartition(": ")[2]), check=True)
    refuse_other_stream(tmp_path, STREAM)


def test_a_note_of_before_there_were_seals_is_read(tmp_path: Path) -> None:
    kept = {"environment": {}, "stream": STREAM | {"generation": 7}}
    (tmp_path / "environment.json").write_text(json.dumps(kept, indent=1))
    assert begun_generation(tmp_path) == 7
    refuse_other_stream(tmp_path, STREAM | {"generation": 7})
    with pytest.raises(BadCache, match="generation differ"):
        refuse_other_stream(tmp_path, STREAM | {"generation": 8})
