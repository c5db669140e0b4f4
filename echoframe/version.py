"""The version, in one place: metadata, --version and the change log's newest entry."""

VERSION = "0.1.0"
