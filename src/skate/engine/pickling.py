"""The pickler that counts the refs inside of what it pickles. See ``skate.cloudpickle``."""

from skate._worker.objects.out_of_band import CloudPickler

__all__ = ["CloudPickler"]
