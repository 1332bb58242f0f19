"""Several runs beside each other: their scores, what differs, and a page that says it."""
