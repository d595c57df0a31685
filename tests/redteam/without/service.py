"""What the service over HTTP holds: scopes of keys, the first key, pages of other sites."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import httpx
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from kernel_sandbox.service.storage import Store
from tests.doors.http.running import Running, issue_key, running, until
from tests.redteam.without import seams
from tests.redteam.without.removal import Ground, Removal

ENGINES = ("bubblewrap",)
SECRET = "what only its owner knows"


def boundless(ground: Ground) -> None:
    ground.replace(seams.REACH, lambda self, address: self.owner in (None, address.owner))


@contextlib.contextmanager
def _filled(ground: Ground, **settings: str) -> Iterator[tuple[Running, httpx.Client]]:
    """A service with a session and its notebook, and a client of who made it."""
    key = issue_key(ground.path, "team") if settings.get("keys") == "on" else None
    with running(ground.path, engine=ground.engine, **settings) as server, server.client(key) as owner:
        owner.post("/v1/sessions", json={"identifier": "private"}).raise_for_status()
        cell = {"source": f"secret = {SECRET!r}; secret"}
        owner.post("/v1/sessions/private/execute", json=cell).raise_for_status()
        until(lambda: bool(owner.get("/v1/transcripts").json()["transcripts"]))
        yield server, owner


def read_beyond_the_scope(ground: Ground) -> bool:
    """With a key for identifiers that begin with "team-", of the same owner."""
    with _filled(ground, keys="on") as (server, owner):
        transcript = owner.get("/v1/transcripts").json()["transcripts"][0]["id"]
        with server.client(issue_key(ground.path, "team", prefixes=("team-",))) as narrow:
            paths = ("/v1/sessions", "/v1/sessions/private/transcript", f"/v1/transcripts/{transcript}")
            told = "".join(narrow.get(path).text for path in paths)
    return "private" in told or SECRET in told


def decided_once(ground: Ground) -> None:
    honest = seams.FIRST_KEY.current
    decided = set()

    async def look_once(self: object) -> None:
        if self not in decided:
            decided.add(self)
            await honest(self)

    ground.replace(seams.FIRST_KEY, look_once)


def go_on_without_a_key(ground: Ground) -> bool:
    with _filled(ground) as (server, _):
        issue_key(ground.path, "team")
        with server.client() as anybody:
            return SECRET in anybody.get("/v1/sessions/private/transcript").text


def asked_once(ground: Ground) -> None:
    ground.replace(seams.LIVE_IDENTITY, lambda self, scope, receive, send, identity: receive)


def go_on_with_a_revoked_key(ground: Ground) -> bool:
    """Over a connection that was there before."""
    key = issue_key(ground.path, "team")
    with running(ground.path, engine=ground.engine, keys="on") as server, server.client(key) as client:
        client.post("/v1/sessions", json={"identifier": "mine"}).raise_for_status()
        address = f"{server.address.replace('http', 'ws')}/v1/sessions/mine/ws"
        with connect(address, additional_headers={"x-api-key": key}) as socket:
            asyncio.run(_revoke(ground, key))
            socket.send('{"type": "execute", "id": "1", "source": "6 * 7"}')
            with contextlib.suppress(ConnectionClosed):
                return "42" in f"{socket.recv(30)!r}"
    return False


async def _revoke(ground: Ground, key: str) -> None:
    async with Store(str(ground.path / "server.db")) as store:
        await store.revoke_key(key.split("_")[1])


def any_site(ground: Ground) -> None:
    ground.replace(seams.OWN_SITE, lambda site: True)


def load_from_another_sites_page(ground: Ground) -> bool:
    """As Chromium asks for a script or a picture of a page: with no Origin."""
    loaded = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "script"}
    with _filled(ground) as (server, _), server.client() as browser:
        return SECRET in browser.get("/v1/sessions/private/transcript", headers=loaded).text


REMOVALS = {
    "scopes: one filter": Removal(
        severity="Lateral", remove=boundless, succeeds=read_beyond_the_scope, engines=ENGINES
    ),
    "keys: looked for until there is one": Removal(
        severity="Lateral", remove=decided_once, succeeds=go_on_without_a_key, engines=ENGINES
    ),
    "keys: live connections ask again": Removal(
        severity="Lateral", remove=asked_once, succeeds=go_on_with_a_revoked_key, engines=ENGINES
    ),
    "open mode: own pages only": Removal(
        severity="Exfil", remove=any_site, succeeds=load_from_another_sites_page, engines=ENGINES
    ),
}
