"""One filter per file, named after its function: text in, a `Verdict` with value and reason out.

A filter knows neither files nor engines nor the recipe: what it needs, it is given. `words.py` holds what they share.
"""
