"""A plugin of pytest (`-p tests.under_uvloop`): every event loop of the process, the reactor's too, is uvloop's."""

import asyncio

import uvloop

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
