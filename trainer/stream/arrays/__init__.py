"""Batches gathered out of arrays: pixels that are decoded once, or kept, with their truths and targets."""
