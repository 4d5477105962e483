"""Libraries of other people that use Ray, run unmodified on skate: ``make clients``."""
