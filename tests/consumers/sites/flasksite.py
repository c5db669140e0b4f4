"""A site of Flask's: `flask --app tests.consumers.sites.flasksite run`."""

from __future__ import annotations

import flask

from tests.consumers.sites.pages import BODY, begun

app = flask.Flask(__name__)


def page() -> str:
    return BODY.decode()


def slow() -> str:
    begun()
    return BODY.decode()


app.add_url_rule("/", view_func=page)
app.add_url_rule("/slow", view_func=slow)
