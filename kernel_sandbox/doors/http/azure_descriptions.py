"""What OpenAPI says of the session pools' routes, whose bodies are read by hand."""

from __future__ import annotations

from typing import Any

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "target": {"type": ["string", "null"]},
            },
        }
    },
}


def _failure(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": _ERROR}}}


OPERATION: dict[int | str, dict[str, Any]] = {
    400: _failure("The request is not understood; `target` names the field. Without a known api-version, too."),
    401: _failure("Nobody says who they are."),
    403: _failure("The key may not use this identifier."),
    404: _failure("There is no such session, file or execution."),
    409: _failure("Something is there already, or is in the way."),
    413: _failure("Too large."),
    429: _failure("As many as you may have; `Retry-After` says when to ask again."),
    503: _failure("No session can be had now; `Retry-After` says when to ask again."),
}

_CODE = {
    "type": "object",
    "properties": {
        "code": {"type": "string", "description": "Python, as in a notebook's cell."},
        "codeInputType": {"type": "string", "enum": ["Inline", "InlineText", "InlineBase64"], "default": "Inline"},
        "executionType": {"type": "string", "enum": ["Synchronous", "Asynchronous"], "default": "Synchronous"},
        "timeoutInSeconds": {"type": "number", "exclusiveMinimum": 0, "maximum": 220, "default": 120},
        "outputStreamsMaxLength": {
            "type": "integer",
            "minimum": 1,
            "description": "Characters of stdout, and of stderr; what is cut says so. Without it nothing is.",
        },
        "shellCommand": {"type": "string", "description": "A command for bash, instead of code."},
        "execCommandAndArgs": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "shellType": {"type": "string", "enum": ["bash", "sh"]},
    },
}
EXECUTE: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"anyOf": [_CODE, {"type": "object", "properties": {"properties": _CODE}}]},
                "examples": {
                    "code": {"value": {"code": "6 * 7", "codeInputType": "Inline", "executionType": "Synchronous"}},
                    "first generation": {
                        "value": {
                            "properties": {"code": "6 * 7", "codeInputType": "inline", "executionType": "synchronous"}
                        }
                    },
                    "shell command": {"value": {"shellCommand": "ls -l"}},
                },
            }
        },
    }
}
UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}
