"""Results in, strings out: terminal, JSON, SARIF, JUnit, Markdown and HTML. No torch, no files, no printing."""
