"""Turns results into strings: terminal, JSON, SARIF, JUnit, Markdown and HTML. No torch, no files, no printing."""
