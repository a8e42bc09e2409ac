"""Attacks: their triggers, how each puts them into a text, and poisoned training sets. Text in, text out; no torch."""
