"""One module a command: a frozen config in, a frozen result out, no printing. Here the rooms are joined."""
