"""Datasets: layouts, the check of their files, and splits."""
