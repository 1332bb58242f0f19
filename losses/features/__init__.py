"""Losses on features and embeddings."""
