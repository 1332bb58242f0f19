"""The commands about many runs and caches: sweeps, tables, reports, lists, removal, why two caches differ."""
