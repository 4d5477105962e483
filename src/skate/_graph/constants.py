"""Names that programs written for Ray look up in nodes."""

#: Keys of ``DAGNode.get_other_args_to_resolve()``.
PARENT_CLASS_NODE_KEY = "parent_class_node"
PREV_CLASS_METHOD_CALL_KEY = "prev_class_method_call"
BIND_INDEX_KEY = "bind_index"
IS_CLASS_METHOD_OUTPUT_KEY = "is_class_method_output"
COLLECTIVE_OPERATION_KEY = "collective_operation"

#: Where a node that is written as JSON says of which kind it is.
DAGNODE_TYPE_KEY = "__dag_node_type__"
