"""What Python imports before a program that `echoframe adopt` has started, and its children.

It must be read by any Python, also by those on which the rest of echoframe does not run.
"""

import os
import sys

_folder = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [path for path in sys.path if os.path.abspath(path) != _folder]

if sys.version_info >= (3, 11):  # noqa: UP036  # any Python may come by here
    # importlib.util would bring half of the standard library.
    from importlib.machinery import ModuleSpec, SourceFileLoader

    # By their paths and under their names: their package would bring all of echoframe.
    for _part in ("wish", "ending", "early"):
        _name = "echoframe.adopt." + _part
        _path = os.path.join(os.path.dirname(_folder), _part + ".py")
        _loader = SourceFileLoader(_name, _path)
        _module = type(sys)(_name)
        _module.__file__ = _path
        _module.__spec__ = ModuleSpec(_name, _loader, origin=_path)
        _module.__package__ = "echoframe.adopt"
        sys.modules[_name] = _module
        _loader.exec_module(_module)
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
