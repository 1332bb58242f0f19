"""Losses of dense detectors, and the assignment of objects to positions that they share."""
