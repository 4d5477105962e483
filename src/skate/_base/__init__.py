"""The vocabulary of every role: ids, resources, configuration, errors. Standard library only."""
