"""Import a worker's program without running tasks: ``import_check [--main] [-m] PROGRAM [ARGS]``, by ``-P -m``.

The controller does so before a run. An instance whose program ended before a worker started runs it as a program, by
``--main``, up to the start of its worker. What is wrong is the last line of standard error, behind ``import_check: ``.
Exit codes: 1, or 4 if a module is missing.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence

__all__: list[str] = []

_MISSING_MODULE = 4
_IMPORTED = "__cloud_tasks_check__"


class _Reached(BaseException):
    """The program has started its worker: its import succeeded."""


def _main(arguments: Sequence[str]) -> int:
    name = _IMPORTED
    if arguments[0] == "--main":
        name, arguments = "__main__", arguments[1:]
    is_module = arguments[:1] == ["-m"]
    program, *rest = arguments[1:] if is_module else arguments
    from cloud_tasks.worker.worker import Worker

    def reached(self: Worker) -> None:
        raise _Reached

    # A program without `if __name__ == "__main__":` starts its worker when it is imported.
    Worker.run = Worker.start = reached  # type: ignore[assignment, method-assign]
    sys.argv = [program, *rest]
    # Started with -P: what is beside the program hides no module of Python until here.
    sys.path.insert(0, os.getcwd() if is_module else os.path.dirname(os.path.abspath(program)))
    try:
        if is_module:
            runpy.run_module(program, run_name=name)
        else:
            runpy.run_path(program, run_name=name)
    except _Reached:
        pass
    except SystemExit as error:
        when = "when it is imported" if name == _IMPORTED else "before its worker starts"
        if error.code not in (None, 0):
            how = f"with exit code {error.code} {when}" if isinstance(error.code, int) else f"{when}: {error.code}"
            return _report(f"{_place_of(error, program)}: it ends {how}")
    except ModuleNotFoundError as error:
        return _report(f"{_place_of(error, program)}: {error}", _MISSING_MODULE)
    except SyntaxError as error:
        return _report(f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}")
    except BaseException as error:
        return _report(f"{_place_of(error, program)}: {type(error).__name__}: {error}")
    return 0


def _place_of(error: BaseException, program: str) -> str:
    """Return the last line of the user's code in a traceback, else of any code, as ``file:line``."""
    import traceback

    here = os.path.dirname(os.path.abspath(__file__))
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<", here)) and frame.filename != runpy.__file__
    ]
    own = os.path.join(os.getcwd(), "")
    of_user = [f for f in frames if os.path.abspath(f.filename).startswith(own) and "site-packages" not in f.filename]
    last = (of_user or frames)[-1:]
    return f"{last[0].filename}:{last[0].lineno}" if last else program


def _report(reason: str, code: int = 1) -> int:
    sys.stderr.write(f"import_check: {' '.join(reason.split())}\n")
    return code


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
