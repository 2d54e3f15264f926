"""From one vector a token to one vector a document."""
