"""The paper's tables, trained and measured again: recipes, runs, and the page beside its numbers.

    recipes.py: what the paper ran ─► runs.py: one detector, resumed ─► table.py ─► report.py

`reproduce` in reproduce.py goes through classes and seeds.
"""
