"""Codecs: a tap's value to stored parts and back. Modules: contract, int8, raw, reduction, table."""
