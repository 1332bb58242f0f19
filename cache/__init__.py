"""Build a teacher's cache and read it back. Import the module you need: this package imports nothing by
itself.

Reading a cache must stay light (no timm, no DALI), so names are not gathered here.
"""
