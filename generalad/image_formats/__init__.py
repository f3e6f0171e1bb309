"""Image files: which are read, what their headers say, and the decoder of the PNM formats."""
