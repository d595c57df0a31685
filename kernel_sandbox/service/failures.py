"""What a failure is to a client: a status of HTTP, a code, and the body that every API of the service answers with.

The body is that of the session pools' API, `{"error": {"code", "message"}}`, on all routes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kernel_sandbox import errors
from kernel_sandbox.pool import PoolClosed, PoolFull, SessionNotFound
from kernel_sandbox.service.idempotency import AnswerNotKept, KeyReused, TooManyKeys
from kernel_sandbox.service.identity import AuthenticationUnavailable, Forbidden, Unauthenticated
from kernel_sandbox.service.logs import log_event, log_failure
from kernel_sandbox.service.ownership import InvalidIdentifier
from kernel_sandbox.service.results import DuplicateExecution, TooManyJobs
from kernel_sandbox.service.service import QuotaExceeded, SessionMissing
from kernel_sandbox.service.storage import ResultTooLarge, StorageError


class InvalidRequest(errors.SandboxError):
    """A request that is not understood: HTTP 400."""

    def __init__(self, message: str, *, code: str = "InvalidRequest", target: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.target = target
        """Which part of the request it is."""


class InvalidVersion(InvalidRequest):
    """No api-version, or one that this server does not speak."""

    def __init__(self, known: Iterable[str]) -> None:
        self.known = ", ".join(known)
        super().__init__(f"Give api-version as one of: {self.known}.", code="InvalidApiVersion", target="api-version")


class Refusal(errors.SandboxError):
    """A request that is refused before it is looked at: too large, too slow, too many at once."""

    def __init__(self, status: int, code: str, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.retry_after = status, code, retry_after


# The first class that fits counts: kinds stand before what they are a kind of.
_TABLE: tuple[tuple[type[Exception], int, str], ...] = (
    (Unauthenticated, 401, "Unauthorized"),
    (Forbidden, 403, "Forbidden"),
    (AuthenticationUnavailable, 503, "AuthenticationUnavailable"),
    (InvalidVersion, 400, "InvalidApiVersion"),
    (InvalidIdentifier, 400, "InvalidIdentifier"),
    (InvalidRequest, 400, "InvalidRequest"),
    (SessionMissing, 404, "NoSessionFoundError"),
    (SessionNotFound, 404, "NoSessionFoundError"),
    (errors.SandboxFileNotFound, 404, "FileNotFound"),
    (errors.FileNameRefused, 400, "FilePathInvalid"),
    (errors.SandboxFull, 413, "SessionStorageFull"),
    (errors.FileError, 409, "FileConflict"),
    (DuplicateExecution, 409, "ExecutionExists"),
    (AnswerNotKept, 409, "AnswerNotKept"),
    (KeyReused, 422, "IdempotencyKeyReused"),
    (TooManyKeys, 429, "TooManyRequests"),
    (QuotaExceeded, 429, "SessionsCountExceedsLimit"),
    (TooManyJobs, 429, "ExecutionsCountExceedsLimit"),
    (PoolFull, 429, "SessionsCountExceedsLimit"),
    (PoolClosed, 503, "ServiceUnavailable"),
    (ResultTooLarge, 413, "ResultTooLarge"),
    (StorageError, 503, "StorageUnavailable"),
    (errors.EngineError, 503, "SessionNotStarted"),
    (errors.KernelNotReady, 503, "SessionNotStarted"),
    (errors.SandboxLost, 503, "SessionLost"),
    (errors.KernelDied, 503, "SessionLost"),
    (errors.ProtocolViolation, 503, "SessionLost"),
    (errors.SessionClosed, 409, "SessionChanging"),
)
_MESSAGES = {
    "StorageUnavailable": "The server's database cannot be used now; the server's log says why.",
    # The engine's own words are for who runs the server: they name its paths and images.
    "SessionNotStarted": "No session could be started now; the server's log says why.",
    "SessionChanging": "The session is just being started or ended: ask again.",
    "SessionLost": "The session's sandbox has ended: the next call begins a new one.",
}
_RETRY_AFTER = {503: 2, 429: 5}


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure as it is answered."""

    status: int
    code: str
    message: str
    more: Mapping[str, str] = field(default_factory=dict)
    """Headers of its own."""
    target: str | None = None

    def headers(self) -> dict[str, str]:
        return {**self.more, "x-ms-error-code": self.code}

    def body(self) -> dict[str, object]:
        target = {} if self.target is None else {"target": self.target}
        return {"error": {"code": self.code, "message": self.message, **target}}


def failure_of(exc: Exception) -> Failure:
    """Return what an exception is in HTTP; what nobody foresaw is a 500 that gives nothing away."""
    if isinstance(exc, Refusal):
        return Failure(exc.status, exc.code, str(exc), _headers(exc, exc.status))
    for kind, status, code in _TABLE:
        if isinstance(exc, kind):
            if code in _MESSAGES:
                log_event("request failed", kind=type(exc).__name__, reason=str(exc)[:1000])
            named = getattr(exc, "code", code) if isinstance(exc, InvalidRequest) and code == "InvalidRequest" else code
            target = getattr(exc, "target", None)
            return Failure(status, named, _MESSAGES.get(code, str(exc)), _headers(exc, status), target)
    log_failure("request failed", exc)
    return Failure(500, "InternalServerError", "The server failed at this; its log says where.")


def _headers(exc: Exception, status: int) -> dict[str, str]:
    seconds = getattr(exc, "retry_after", None) or _RETRY_AFTER.get(status)
    headers = {} if seconds is None else {"Retry-After": str(math.ceil(seconds))}
    if isinstance(exc, Unauthenticated):
        headers["WWW-Authenticate"] = exc.challenge
    if isinstance(exc, InvalidVersion):
        headers["api-supported-versions"] = exc.known
    return headers
