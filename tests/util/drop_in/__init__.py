"""Programs that are run twice: on Python's own pools or joblib's, and on skate's. They print the same."""
