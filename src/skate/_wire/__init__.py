"""Messages between processes, and their bytes. No sockets here."""
