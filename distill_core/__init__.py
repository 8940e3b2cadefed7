"""Distill Studio's engine: distil, fine-tune, evaluate and compare language models."""
