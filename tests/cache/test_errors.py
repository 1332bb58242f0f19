"""Errors: three parts on three lines, also out of a worker process, and the nearest legal name."""

import pickle

import pytest

from kdcache.cache import errors
from kdcache.cache.errors import BadCache, BadOption, KdError, nearest, unknown

KINDS = sorted(
    (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, KdError)),
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_shows_its_three_parts_on_three_lines(kind: type[KdError]) -> None:
    error = kind("the shard is torn", where="records/1", fix="build again")
    assert str(error) == "the shard is torn\n  where: records/1\n  fix:   build again"


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_comes_whole_out_of_another_process(kind: type[KdError]) -> None:
    error = pickle.loads(pickle.dumps(kind("what", where="here", fix="do")))
    assert type(error) is kind and (error.what, error.where, error.fix) == ("what", "here", "do")


@pytest.mark.parametrize(
    ("kind", "caught_as"),
    [
        *((errors.BadOption, ValueError), (errors.BadSample, ValueError), (errors.BadWeights, ValueError)),
        *((errors.Missing, FileNotFoundError), (errors.DiskFull, OSError), (errors.Busy, RuntimeError)),
        *((errors.BadCache, RuntimeError), (errors.TornManifest, BadCache)),
    ],
)
def test_an_error_is_also_the_built_in_that_a_caller_would_catch(
    kind: type[KdError], caught_as: type
) -> None:
    assert issubclass(kind, caught_as)


def test_a_misspelt_name_is_answered_with_the_nearest_and_all_legal_ones() -> None:
    error = unknown("codec", "in8", ["raw", "int8", "fp16"], where="--tap")
    assert isinstance(error, BadOption) and error.what == "unknown codec 'in8'" and error.where == "--tap"
    assert error.fix == "did you mean 'int8'? legal: fp16, int8, raw"
    assert unknown("codec", "xyz", ["raw", "int8"], where="").fix == "legal: int8, raw"


def test_no_name_is_guessed_where_none_is_close() -> None:
    assert nearest("stage3", ["stage4", "logits"]) == "stage4"
    assert nearest("qqqq", ["stage4", "logits"]) is None and nearest("stage4", []) is None
