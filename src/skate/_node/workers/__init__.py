"""The node's worker processes and clients: started, watched, ended; their logs."""
