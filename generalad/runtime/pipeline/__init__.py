"""The threads of a run and what goes between them: readers, batches, the network, the writer."""
