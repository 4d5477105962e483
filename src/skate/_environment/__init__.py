"""Runtime environments: what they may say, what they are made of, how they are prepared and entered."""
