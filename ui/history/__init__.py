"""What the Runs tab is made of."""
