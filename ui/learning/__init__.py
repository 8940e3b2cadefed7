"""What the Learn tab is made of."""
