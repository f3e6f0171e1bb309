"""Export: a detector becomes one file that is compared with the original before it exists."""
