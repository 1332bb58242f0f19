"""Losses on maps of segmentation networks."""
