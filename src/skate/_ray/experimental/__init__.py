"""What ``ray.experimental`` has beyond ``skate.experimental``."""
