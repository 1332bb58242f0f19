"""The source beside the cache: what is new, what changed, which block takes it, and packing it."""
