"""The commands about caches: what each prints, and what `kdcache` takes from its words."""
