"""Makes ``ray`` mean skate in a program, its workers, and the processes that it starts (ADR 23)."""

#: The version of Ray whose API skate implements; programs compare it with the version that they need.
RAY_VERSION = "2.60.0"
#: The variable that says so to processes that this one starts.
VARIABLE = "SKATE_AS_RAY"
