"""A run: planned from data and a recipe, built, trained, measured and written to a folder."""
