"""The command that builds a cache like one that is there, for messages: typed as it stands it works."""

from kdcache.cache.record.manifest import Manifest

EMPTY, KEPT = "empty", "kept"  # of an identity


def keeps_empty(manifest: Manifest) -> bool:
    """Whether the cache was asked to hold samples from which nothing can be learnt."""
    return manifest.identity.get(EMPTY) == KEPT


def build_words(manifest: Manifest) -> list[str]:
    """'kdcache build' with the teacher and the data of a cache; more options may follow."""
    words = ["kdcache", "build", "--teacher", manifest.teacher_origin, "--data", manifest.data_spec]
    if (split := str(manifest.data["split"])) != "train":
        words += ["--split", split]
    if manifest.teacher_weights:
        words += ["--weights", manifest.teacher_weights]
    if keeps_empty(manifest):
        words += ["--keep-empty"]
    if manifest.network.get("mean"):
        words += ["--mean"]
    return words
