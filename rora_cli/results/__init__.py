"""Frozen result types: plain numbers and strings, what the reports render. One file a subject; no torch."""
