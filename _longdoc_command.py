"""Starts the command line without loading models first, so that ``--help`` answers at once.

``import longdoc`` registers Mamba with transformers, which takes seconds; a command that trains
does so when it needs it. That this module is loaded is how longdoc knows which of the two it is.
"""


def main() -> None:
    """Run the command line."""
    from longdoc.cli import main as run

    run()
