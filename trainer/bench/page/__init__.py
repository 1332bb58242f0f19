"""The report: one HTML file of figures, tables and pictures."""
