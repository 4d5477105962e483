"""Finds the application that an import path names, or has a builder function make it."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from skate.serve._build import is_users
from skate.serve._config import split_import_path
from skate.serve._folders import look_first_in
from skate.serve.deployment import Application


class BuildError(ValueError):
    """An application cannot be built as it was asked for. The text says why, without a traceback."""


class ImportPathError(BuildError):
    """An import path does not name an application. The user's code is not at fault."""


def application_of(
    import_path: str, arguments: Mapping[str, Any], folders: Sequence[str] = ()
) -> Application:
    """Return the application that an import path names.

    Args:
        import_path: ``module:application``, or ``module:function`` of a function that returns one.
        arguments: the function's only argument, a dict; or what its annotation makes of that, if it is a
            model of pydantic.
        folders: where modules are looked for first.

    Raises:
        ImportPathError: it names no application.
        ValueError: the arguments do not fit.

    Example:
        >>> application_of("app:build", {"size": "small"})
        Application(Model)
    """
    look_first_in(folders)
    module, name = split_import_path(import_path)
    found: Any = _imported(module, folders)
    for part in name.split("."):
        if not hasattr(found, part):
            known = [
                key for key, value in vars(sys.modules[module]).items() if isinstance(value, Application)
            ]
            raise ImportPathError(
                f"the module {module} has no {name}; its applications are {', '.join(known) or 'none'}"
            )
        found = getattr(found, part)
    if isinstance(found, Application):
        if arguments:
            raise ValueError(
                f"{import_path} is an application and takes no arguments, got {', '.join(arguments)}: only a "
                "function that returns one takes some"
            )
        return found
    if not inspect.isfunction(found):
        raise ImportPathError(
            f"{import_path} is {type(found).__name__}: neither an application, which bind() returns, nor a "
            "function that returns one"
        )
    made = _call(found, arguments, import_path)
    if not isinstance(made, Application):
        raise ImportPathError(f"{import_path} returned {made!r:.100}, which is no application: call bind()")
    return made


def _imported(module: str, folders: Sequence[str]) -> Any:
    if os.sep in module or module.startswith("."):
        raise ImportPathError(
            f"{module!r} is a path: a module has a name such as package.module, and --app-dir says where it "
            "is looked for"
        )
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # a module of the user's imports it
        raise ImportPathError(
            f"No module named {error.name!r}, which is looked for in {', '.join(folders) or 'sys.path'} first"
            + _hint(module)
        ) from None


def _hint(module: str) -> str:
    """Return what is likely meant by the name of a module that is a file's."""
    if module.endswith(".py"):
        return f": a module is named without .py, {module.removesuffix('.py')}"
    return ""


def _call(builder: Any, arguments: Mapping[str, Any], import_path: str) -> Any:
    parameters = list(inspect.signature(builder).parameters.values())
    if not parameters and not arguments:
        return builder()
    if len(parameters) != 1:
        raise ValueError(
            f"{import_path} has {len(parameters)} parameters: a function that returns an application has "
            "one, a dict of the arguments"
        )
    try:
        model = typing.get_type_hints(builder).get(parameters[0].name)
    except NameError:  # an annotation names what is there for type checkers only
        model = None
    validate = getattr(model, "model_validate", None)
    # Errors of a model are ValueErrors, and name the field.
    return builder(dict(arguments) if validate is None else validate(dict(arguments)))


def users_files(before: set[str]) -> list[str]:
    """Return the files of the user's own modules that were imported since.

    Args:
        before: the names of the modules that were imported by then.
    """
    return sorted(
        {
            path
            for name, module in list(sys.modules.items())
            if name not in before and name.partition(".")[0] != "skate"
            if (path := getattr(module, "__file__", None)) and path.endswith(".py") and is_users(path)
        }
    )
