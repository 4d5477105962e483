"""The verbs of a Dataset, a family a file."""
