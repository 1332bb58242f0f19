"""Random words for all rows of a shard at once are those that each row draws alone, bit for bit."""

from itertools import islice

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcache.cache.views.recipe import read_recipe
from kdcache.cache.views.sets import parse_views
from kdcache.cache.views.words import TABLE_BLOCKS, TableWords, endless, key_hash, philox_words

WORD = st.integers(0, 2**63 - 1)


@settings(max_examples=60, deadline=None)
@given(seed=WORD, number=st.integers(0, 2**40), purpose=st.integers(0, 8), keys=st.sets(st.text(max_size=9)))
def test_words_of_many_keys_are_numpys_own(seed: int, number: int, purpose: int, keys: set[str]) -> None:
    hashes = np.array([key_hash(key) for key in sorted(keys)], dtype=np.uint64)
    words = philox_words(seed, hashes, number, purpose, 3)
    for row, own in zip(words, hashes, strict=True):
        philox = np.random.Philox(
            key=np.array([seed, own], dtype=np.uint64),
            counter=np.array([0, number, purpose, 0], dtype=np.uint64),
        )
        assert (philox.random_raw(12) == row).all()


@settings(max_examples=30, deadline=None)
@given(seed=WORD, number=st.integers(0, 2**20), purpose=st.integers(0, 8))
def test_a_table_goes_on_where_it_ends_and_leaves_strangers_to_themselves(
    seed: int, number: int, purpose: int
) -> None:
    table, many = TableWords(seed, ["a", "b"]), 4 * TABLE_BLOCKS + 13
    for asked, key in ((seed, "a"), (seed, "b"), (seed, "of another block"), (seed ^ 1, "a")):
        wanted = list(islice(endless(asked, key, number, purpose), many))
        assert list(islice(table(asked, key, number, purpose), many)) == wanted


@settings(max_examples=40, deadline=None)
@given(
    seed=WORD,
    number=st.integers(0, 7),
    text=st.sampled_from(["scale=0.5x2,flip", "rrc=0.08,flip,jitter=0.4,mixup=0.2", "pad=4,flip,erase=0.5",
                          "randaugment=2x9,cutmix=1", "none"]),
)  # fmt: skip
def test_every_recipe_draws_the_same_view_from_a_table(seed: int, number: int, text: str) -> None:
    views = parse_views("crops:8", crop=(24, 32), seed=seed, mirror=False, augment=read_recipe(text))[0]
    keys = [f"k{i}" for i in range(5)]
    table = TableWords(seed, keys)
    for key in keys:
        assert views.view(key, number, 40, 50, keys, table) == views.view(key, number, 40, 50, keys)
