"""Errors of BigQuery's REST API."""

from __future__ import annotations


class ApiError(Exception):
    """An error response: its HTTP status, and its reason and message as BigQuery gives them."""

    def __init__(self, status, reason, message, errors=None):
        super().__init__(message)
        self.status, self.reason, self.message, self.errors = status, reason, message, errors or []

    def error_proto(self):
        """The error as it is listed in a job's status."""
        return {"reason": self.reason, "message": self.message}

    def body(self):
        """The body of the error response."""
        return {
            "error": {
                "code": self.status,
                "message": self.message,
                "status": self.reason,
                "errors": [{"domain": "global", **self.error_proto()}, *self.errors],
            }
        }


def not_found(kind, name, location=None):
    return ApiError(
        404, "notFound", f"Not found: {kind} {name}" + (f" was not found in location {location}" if location else "")
    )


def unsupported(feature):
    return ApiError(501, "notImplemented", f"This test server does not implement {feature}.")


def check_keys(config, allowed, where):
    """Raises an error if a key other than these has a value."""
    for key, value in config.items():
        if key not in allowed and value not in (None, "", [], {}, False):
            raise unsupported(f"{where}.{key}={value!r}")
