"""What a student is asked to match: per-row values, averaged in `objective.py`."""
