"""What Ray's documentation promises, as tests that run on skate and on real Ray."""
