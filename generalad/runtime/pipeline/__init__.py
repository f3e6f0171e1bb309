"""The threads of a run and what goes between them: readers -> batcher -> writer."""
