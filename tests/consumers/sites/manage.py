"""A site of Django's, in one file: `manage.py runserver`."""

from __future__ import annotations

import os
import sys
from typing import Any

from tests.consumers.sites.pages import BODY, begun

# What Django looks for in the module of its settings.
DEBUG = True
SECRET_KEY = "not one"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.consumers.sites.manage"
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
USE_TZ = True
STATIC_URL = "static/"
if "test" in sys.argv:
    DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
    INSTALLED_APPS = ["django.contrib.contenttypes"]


def page(request: Any) -> Any:
    from django.http import HttpResponse

    return HttpResponse(BODY)


def slow(request: Any) -> Any:
    begun()
    return page(request)


def kinds(request: Any) -> Any:
    """What is in the database; POST adds something."""
    from django.contrib.contenttypes.models import ContentType
    from django.http import HttpResponse

    if request.method == "POST":
        ContentType.objects.create(app_label="made", model=request.GET["name"])
    return HttpResponse(str(ContentType.objects.filter(app_label="made").count()))


class _Patterns:
    """Only once Django is set up."""

    def __iter__(self) -> Any:
        from django.urls import path

        return iter([path("", page), path("slow", slow), path("kinds", kinds)])

    def __reversed__(self) -> Any:
        return reversed(list(self))


urlpatterns = _Patterns()

if __name__ == "__main__":
    from django.core.management import execute_from_command_line

    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.consumers.sites.manage"
    execute_from_command_line(sys.argv)
