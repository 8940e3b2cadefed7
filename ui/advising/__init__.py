"""What the Advisor tab is made of."""
