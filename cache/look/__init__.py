"""Looking at caches and teachers: verify, peek, and the teacher behind a cache."""
