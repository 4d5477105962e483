"""Runs joblib's ``Parallel``, and with it scikit-learn, on tasks.

::

    import joblib
    from skate.util.joblib import register_skate

    register_skate()
    with joblib.parallel_config(backend="skate"):
        search.fit(digits.data, digits.target)
"""

from __future__ import annotations

__all__ = ["register_ray", "register_skate"]


def register_skate() -> None:
    """Make the backend ``"skate"`` known to joblib, in this process.

    Options of the backend (``joblib.parallel_config(backend="skate", ...)``): ``ray_remote_args``,
    options of the tasks as of ``@skate.remote``.

    Raises:
        ImportError: joblib is not installed.

    Example:
        >>> skate.util.joblib.register_skate()
        >>> with joblib.parallel_config(backend="skate", n_jobs=4):
        ...     joblib.Parallel()(joblib.delayed(pow)(2, i) for i in range(10))
    """
    _register("skate")


def register_ray() -> None:
    """Make the same backend known as ``"ray"``, for programs written for Ray.

    Raises:
        ImportError: joblib is not installed.

    Example:
        >>> skate.util.joblib.register_ray()
    """
    _register("ray")


def _register(name: str) -> None:
    try:
        from joblib import register_parallel_backend
    except ImportError as error:
        raise ImportError("the joblib backend needs joblib: pip install joblib") from error
    from skate.util.joblib._backend import SkateBackend

    register_parallel_backend(name, SkateBackend)
