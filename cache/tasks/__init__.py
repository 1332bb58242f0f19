"""What the cache's side knows of each task. Start at `table.task_of`."""
