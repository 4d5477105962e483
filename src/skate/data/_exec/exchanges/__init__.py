"""Exchanges: operations that need rows of several tasks together."""

from skate.data._exec.exchanges.aggregate import Aggregate
from skate.data._exec.exchanges.duplicates import DropDuplicates, unique
from skate.data._exec.exchanges.groups import MapGroups
from skate.data._exec.exchanges.in_process import output_schema, run_exchange
from skate.data._exec.exchanges.join import JOIN_TYPES, Join
from skate.data._exec.exchanges.near_duplicates import NearDuplicates
from skate.data._exec.exchanges.repartition import HashRepartition, Repartition
from skate.data._exec.exchanges.shuffle import Shuffle
from skate.data._exec.exchanges.sort import Sort, TopK
from skate.data._exec.exchanges.zip import Zip

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
