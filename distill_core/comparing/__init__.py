"""Whose weights can answer, and their answers to one prompt side by side."""
