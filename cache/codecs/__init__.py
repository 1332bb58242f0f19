"""Codecs: a tap's value to stored parts and back. Import from the modules: contract, int8, raw, table."""
