"""What the Build tab is made of."""
