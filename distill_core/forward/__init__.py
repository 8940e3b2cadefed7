"""Rows through a network: logits where they are asked for, and what lies inside it."""
