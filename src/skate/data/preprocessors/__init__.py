"""Preparation of columns for models: what is fitted on one data set and applied to others.

::

    Preprocessor            the protocol: fit, transform, transform_batch
    StandardScaler, ...     numbers: scaled, normalised, made more normal, cut into bins
    OrdinalEncoder, ...     categories as numbers or vectors
    SimpleImputer           values in place of missing ones
    Concatenator            several columns as one column of vectors
    Tokenizer, ...          text as tokens, and as vectors of counts
    TorchVisionPreprocessor pictures, by a transform of torchvision
    Chain                   several, one after the other

Example:
    >>> scaler = StandardScaler(columns=["height", "weight"]).fit(train)
    >>> scaler.transform(test).write_parquet("scaled/")
"""

from skate.data.preprocessors._base import FitStatus, Preprocessor, PreprocessorNotFittedException
from skate.data.preprocessors._categories import (
    Categorizer,
    LabelEncoder,
    MultiHotEncoder,
    OneHotEncoder,
    OrdinalEncoder,
)
from skate.data.preprocessors._chain import Chain
from skate.data.preprocessors._concatenator import Concatenator
from skate.data.preprocessors._discretizers import CustomKBinsDiscretizer, UniformKBinsDiscretizer
from skate.data.preprocessors._imputer import SimpleImputer
from skate.data.preprocessors._rows import Normalizer, PowerTransformer
from skate.data.preprocessors._scalers import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from skate.data.preprocessors._text import CountVectorizer, FeatureHasher, HashingVectorizer, Tokenizer
from skate.data.preprocessors._torch import TorchVisionPreprocessor

__all__ = [
    "Categorizer",
    "Chain",
    "Concatenator",
    "CountVectorizer",
    "CustomKBinsDiscretizer",
    "FeatureHasher",
    "FitStatus",
    "HashingVectorizer",
    "LabelEncoder",
    "MaxAbsScaler",
    "MinMaxScaler",
    "MultiHotEncoder",
    "Normalizer",
    "OneHotEncoder",
    "OrdinalEncoder",
    "PowerTransformer",
    "Preprocessor",
    "PreprocessorNotFittedException",
    "RobustScaler",
    "SimpleImputer",
    "StandardScaler",
    "Tokenizer",
    "TorchVisionPreprocessor",
    "UniformKBinsDiscretizer",
]
