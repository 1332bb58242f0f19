"""The supervised loss of every task: one file of the task's name, one class `Supervised`."""
