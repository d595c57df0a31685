"""Sessions over HTTP: thin shapes on `service`, and the layers around them that let requests in.

asgi_app       routes, and around them the layers; adds the tools of `doors/mcp` by name
serving        serves until it is told to end; `tls` its certificate
serve keys_command  the commands `kernel-sandbox serve` and `kernel-sandbox keys`

doorkeeper     who sends a request, before anything else of it is looked at
limits         bytes, seconds and numbers of a request, before anything is read
observer       a line in the log, numbers and a span for each request
methods        HTTP's methods beside those that routes name
proxies        what a proxy says of a request
prefixes       the pools' API on any prefix, and identifiers in one piece; `urls` our own addresses

native         our routes under /v1; `native_models` their bodies, `outputs_json` outputs, `admin` /v1/admin
websocket_sessions  a session over a WebSocket; `websocket_messages` its texts
azure          the session pools' API; `azure_requests`, `azure_results`, `azure_shapes`, `azure_descriptions`
sessions_page  the page for people; `cell_views` its cells, `page_files/` what a browser gets
reference      the OpenAPI description as a page

bodies         JSON and files, in and out; how a failure is answered
event_stream   a running cell as server-sent events
plain_requests requests that run something and wait
"""
