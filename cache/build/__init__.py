"""Building a cache: options, plan, what it will cost, samples, targets. Start at `build.build_cache`."""
