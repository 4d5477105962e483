"""Defines the messages between processes and their bytes; uses no sockets."""
