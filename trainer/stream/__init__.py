"""What flows into a step: which samples, which pixels, which targets."""
