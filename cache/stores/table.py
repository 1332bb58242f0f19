"""Target formats by name."""

from collections.abc import Callable, Mapping

from kdcache.cache.errors import unknown
from kdcache.cache.stores.contract import TargetFormat
from kdcache.cache.stores.webdataset_format import WebdatasetFormat
from kdcache.cache.stores.zarr_format import ZarrFormat

FORMATS: Mapping[str, Callable[[], TargetFormat]] = {"zarr": ZarrFormat, "webdataset": WebdatasetFormat}
DEFAULT_FORMAT = "zarr"


def target_format(name: str) -> TargetFormat:
    """The format called `name`. Raises BadOption for an unknown one."""
    if name not in FORMATS:
        raise unknown("target format", name, FORMATS, where="--format")
    return FORMATS[name]()
