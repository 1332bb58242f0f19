"""Stores: parts to disk and back. Import from the modules: contract, local, table, sample_tars."""
