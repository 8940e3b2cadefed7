"""Distil or fine-tune: answers in, a recommendation with reasons and a recipe out."""
