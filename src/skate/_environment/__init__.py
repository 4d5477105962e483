"""Handles runtime environments: checks, describes, prepares and enters them."""
