"""What a cache claims and what exists: manifest, records, the classifier, and where caches lie."""
