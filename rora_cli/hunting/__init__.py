"""The trigger search."""
