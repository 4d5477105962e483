"""Exchanges: operations that need rows of several tasks together."""

from skate.data._operators.exchanges.aggregate import Aggregate
from skate.data._operators.exchanges.duplicates import DropDuplicates, unique
from skate.data._operators.exchanges.groups import MapGroups
from skate.data._operators.exchanges.in_process import output_schema, run_exchange
from skate.data._operators.exchanges.join import JOIN_TYPES, Join
from skate.data._operators.exchanges.near_duplicates import NearDuplicates
from skate.data._operators.exchanges.repartition import HashRepartition, Repartition
from skate.data._operators.exchanges.shuffle import Shuffle
from skate.data._operators.exchanges.sort import Sort, TopK
from skate.data._operators.exchanges.zip import Zip

__all__ = [
    "JOIN_TYPES",
    "Aggregate",
    "DropDuplicates",
    "HashRepartition",
    "Join",
    "MapGroups",
    "NearDuplicates",
    "Repartition",
    "Shuffle",
    "Sort",
    "TopK",
    "Zip",
    "output_schema",
    "run_exchange",
    "unique",
]
