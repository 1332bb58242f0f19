"""What cannot work of a command line is the same on every rank: one of them says it, each exits with 2."""

import pytest
from click.testing import CliRunner

from kdcache.cli.kdcache import main as kdcache
from kdcache.cli.kdtrain import kdtrain


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (kdtrain, ["--student", "r18", "--data", "some:here", "--lr", "-1"]),  # an option's value
        (kdtrain, ["--no-such-option"]),  # click's own refusals
        (kdtrain, ["eval"]),
        (kdcache, ["compact", "--out", "a/b"]),
    ],
)
def test_one_rank_of_a_machine_says_it(
    command: object, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {}
    for rank, local in ((0, 0), (1, 1), (2, 0), (3, 1)):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("LOCAL_RANK", str(local))
        ended = CliRunner().invoke(command, words)  # type: ignore[arg-type]
        assert ended.exit_code == 2
        said[rank] = ended.output
    assert said[0] and said[0] == said[2] and not said[1] and not said[3]


def test_what_one_rank_alone_meets_is_said_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    ended = CliRunner().invoke(kdtrain, ["eval", "nothing"])
    assert ended.exit_code == 2 and "no run 'nothing'" in ended.stderr
