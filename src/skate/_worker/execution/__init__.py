"""The executing side of a call: arguments in, user code, results out, in every kind of actor."""
