"""Commands with which a student leaves the house: predict and export."""
