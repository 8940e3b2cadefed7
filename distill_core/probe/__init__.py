"""Measure instead of believing: ways to train, on small and equal budgets, seed after seed."""
