"""``python -m rora_cli`` and the ``rora`` entry point."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from rora_cli.cli.app import run

    run()


if __name__ == "__main__":
    main()
