"""Sequence classifiers."""
