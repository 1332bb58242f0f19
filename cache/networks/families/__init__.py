"""Families of networks: how each is assembled from its library, and where its taps are."""
