"""The protocol of preprocessors, where ``ray.data.preprocessor`` has it; see ``skate.data.preprocessors``."""

from skate.data.preprocessors._base import FitStatus, Preprocessor, PreprocessorNotFittedException

__all__ = ["FitStatus", "Preprocessor", "PreprocessorNotFittedException"]
