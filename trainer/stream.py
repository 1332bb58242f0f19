"""The streams that training reads, and the words they share.

`fresh_stream` draws new views of original images, `stored_stream` replays a cache's views with its targets,
`online` puts a live teacher behind either. All give the same batches for any world size and from any step
on.
"""

from kdcache.trainer.batch_layout import Batch as Batch
from kdcache.trainer.batch_layout import BatchLayout as BatchLayout
from kdcache.trainer.batch_layout import Mixed as Mixed
from kdcache.trainer.batch_layout import SampleSource as SampleSource
from kdcache.trainer.batch_layout import Stream as Stream
from kdcache.trainer.fresh_stream import fresh_stream as fresh_stream
from kdcache.trainer.online_stream import online as online
from kdcache.trainer.stored_stream import stored_stream as stored_stream
