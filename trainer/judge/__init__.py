"""Judging networks: one loop, one judge per task."""
