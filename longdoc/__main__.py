"""``python -m longdoc``: the command line, as torchrun starts it."""

from longdoc.cli import main

if __name__ == "__main__":
    main()
