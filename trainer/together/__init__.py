"""Several runs in one process on the same batches, each of them what it is alone."""
