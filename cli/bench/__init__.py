"""The commands about many runs and caches: grids of runs, lists, removal, why two caches differ."""
