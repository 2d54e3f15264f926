"""What a user would pick instead of a backbone."""
