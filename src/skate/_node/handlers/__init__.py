"""One file a subject: decode, drop what is stale, ask a table, carry out its commands."""
