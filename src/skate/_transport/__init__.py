"""Sockets: framed connections and the reactor that serves them."""
