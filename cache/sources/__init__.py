"""Labelled images on disk, one file per dataset. Start at `kdcache.cache.sources.table.open_source`."""
