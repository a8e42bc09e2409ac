"""Causal language models: a prompt goes in, and an answer comes out."""
