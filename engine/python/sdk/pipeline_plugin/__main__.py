"""``python -m pipeline_plugin FILE [SHA256]``: what the engine starts; it speaks to it over standard input and output."""

import sys

from .wire import Wire


def main() -> int:
    """Serves the plugin whose file is given until the engine closes its end."""
    if not 2 <= len(sys.argv) <= 3:
        print("usage: python -m pipeline_plugin FILE [SHA256]; the engine starts this", file=sys.stderr)
        return 2
    wire = Wire.take_over()
    # After the pipes are safe: whatever is imported may print.
    from .serve import Server

    try:
        Server(wire, sys.argv[1], sys.argv[2] if 2 < len(sys.argv) else None).run()
    except (BrokenPipeError, EOFError):
        pass  # The engine is gone; it has nobody to tell.
    return 0


if __name__ == "__main__":
    sys.exit(main())
