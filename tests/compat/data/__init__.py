"""What programs see of ``ray.data``, as tests that run on skate and on real Ray."""
