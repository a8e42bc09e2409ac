"""Batched inference, clean accuracy, attack success and their intervals."""
