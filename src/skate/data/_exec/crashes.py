"""Says of the error of a crash where in the plan it was, and what helps."""

from __future__ import annotations

from skate.data._exec.commands import Submit


def explain_crash(error: BaseException, stage: str, command: Submit) -> None:
    """Add to the text of an error which task of which stage it ended, and what may have been the cause.

    Args:
        error: of the runtime; its process ended.
        stage: name of the stage.
        command: that submitted the task.
    """
    text = f"It ran {stage} of a data set, task {command.name!r}."
    if command.is_isolated:
        text += (
            " Functions of rows, batches and groups, aggregates, the decoders of files and writes ran in "
            "processes of their own this time, so it was no crash of theirs. What runs in the task may "
            "have ended it: an expression, your own datasource. Or memory was short: tasks that ask for "
            "more CPUs (num_cpus=) run fewer at a time, smaller batches (batch_size=) and blocks "
            "(DataContext.target_max_block_size) need less."
        )
    _add_to_text(error, text)


def _add_to_text(error: BaseException, text: str) -> None:
    """Add a line to the text of an error of the runtime, which ends with one of its arguments or attributes.

    Not as a note: Python 3.10 has none, and a note is lost where only ``str(error)`` is logged.
    """
    before = str(error)
    texts = [one for one in (*error.args, *vars(error).values()) if isinstance(one, str) and one]
    said = max((one for one in texts if before.endswith(one)), key=len, default=None)
    if said is None:
        return
    longer = f"{said}\n{text}"
    error.args = tuple(longer if one == said else one for one in error.args)
    for name, value in list(vars(error).items()):
        if value == said:
            setattr(error, name, longer)
