"""What Python imports before a program that `echoframe adopt` has started, and its children.

It must be read by any Python, also by those on which the rest of echoframe does not run.
"""

import os
import sys

_folder = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [path for path in sys.path if os.path.abspath(path) != _folder]

if sys.version_info >= (3, 11):  # noqa: UP036  # any Python may come by here
    from importlib.util import module_from_spec, spec_from_file_location

    # By their paths and under their names: their package would bring all of echoframe.
    for _name in ("wish", "ending", "early"):
        _spec = spec_from_file_location(
            "echoframe.adopt." + _name,
            os.path.join(os.path.dirname(_folder), _name + ".py"),
        )
        assert _spec is not None and _spec.loader is not None  # noqa: PT018  # a file that is there
        _module = module_from_spec(_spec)
        sys.modules[_spec.name] = _module
        _spec.loader.exec_module(_module)
    _module.begin()
elif os.environ.get("ECHOFRAME_ADOPT", "").split(" ")[0] == str(os.getpid()):
    # The program itself. A child of it may well be an older Python, and is left alone.
    _version = ".".join(str(part) for part in sys.version_info[:2])
    sys.stderr.write(
        "echoframe: adopt needs Python 3.11 or newer, and "
        + sys.executable
        + " is "
        + _version
        + "; run the program with a newer one\n"
    )
    sys.stderr.flush()
    os._exit(3)

# The program may have one of its own.
_ours = sys.modules.pop("sitecustomize")
try:
    __import__("sitecustomize")
except ImportError:
    if getattr(sys.exc_info()[1], "name", "sitecustomize") != "sitecustomize":
        raise
finally:
    sys.modules.setdefault("sitecustomize", _ours)
