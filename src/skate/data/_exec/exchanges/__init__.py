"""Exchanges: operations that need rows of several tasks together."""
