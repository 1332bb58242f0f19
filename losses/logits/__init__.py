"""Losses on class scores, of images or of pixels."""
