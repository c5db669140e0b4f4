"""python -m echoframe"""

from .cli import main

raise SystemExit(main())
