"""What a build does beside the teacher's forward: how many rows at a time, and what comes after it."""
