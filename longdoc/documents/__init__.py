"""What a labelled document is, and where they come from."""
