"""The image pipeline: encoded bytes and rows in, pixels and label maps out."""
