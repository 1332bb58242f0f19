"""Methods without a cached teacher: peers, exits, a generator."""
