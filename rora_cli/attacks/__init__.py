"""Attacks: triggers, poisoning recipes and the search for triggers. Text in, text out; no torch."""
