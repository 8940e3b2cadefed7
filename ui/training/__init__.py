"""What the Train tab is made of."""
