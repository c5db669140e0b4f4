"""werkzeug's development server: run_simple(), threaded; over TLS with a certificate and key."""

from __future__ import annotations

import sys
from typing import Any

import werkzeug.serving

from tests.consumers.sites.pages import app

if __name__ == "__main__":
    pair: Any = tuple(sys.argv[1:3]) or None
    werkzeug.serving.run_simple("127.0.0.1", 0, app, threaded=True, ssl_context=pair)
