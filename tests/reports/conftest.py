"""Hypothesis without a deadline: on a busy machine a test's time says nothing about it."""

from hypothesis import settings

settings.register_profile("rora", deadline=None, max_examples=50)
settings.load_profile("rora")
