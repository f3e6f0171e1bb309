"""The threads of a run and what goes between them: lanes -> intake -> writer."""
