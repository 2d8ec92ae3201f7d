"""Errors as BigQuery's REST API answers them."""

from __future__ import annotations


class ApiError(Exception):
    def __init__(self, status, reason, message, errors=None):
        super().__init__(message)
        self.status, self.reason, self.message, self.errors = status, reason, message, errors or []

    def proto(self):
        return {"reason": self.reason, "message": self.message}

    def body(self):
        return {
            "error": {
                "code": self.status,
                "message": self.message,
                "status": self.reason,
                "errors": [{"domain": "global", **self.proto()}, *self.errors],
            }
        }


def not_found(kind, name, location=None):
    return ApiError(
        404, "notFound", f"Not found: {kind} {name}" + (f" was not found in location {location}" if location else "")
    )


def unsupported(what):
    return ApiError(501, "notImplemented", f"This test server does not implement {what}.")


def only(config, allowed, where):
    for key, value in config.items():
        if key not in allowed and value not in (None, "", [], {}, False):
            raise unsupported(f"{where}.{key}={value!r}")
