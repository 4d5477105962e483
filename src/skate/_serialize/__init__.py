"""User values, code and exceptions to bytes and back."""
