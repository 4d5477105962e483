"""What programs see of ``ray.serve``, as tests that run on skate and on real Ray."""
