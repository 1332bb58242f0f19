"""Dense one-stage detectors. Two-stage ones (RPN and ROI heads) and masks would stand beside these files."""
