"""A plugin of pytest (`-p tests.host.under_uvloop`): each event loop of the process, the reactor's too, is uvloop's."""

import asyncio

import uvloop

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
