"""One step: how student, losses and optimizers move."""
