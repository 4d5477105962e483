"""Plans: what the user asked for (``logical``), rewritten (``rules``), and cut into stages (``physical``)."""
