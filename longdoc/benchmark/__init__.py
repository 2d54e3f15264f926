"""How fast the backbones run, beside what else is installed and what the machine can do."""
