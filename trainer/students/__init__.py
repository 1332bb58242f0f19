"""What is trained: one network, or several in one form, and how it is begun and exported."""
