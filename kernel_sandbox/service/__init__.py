"""Every operation on a session by an identifier, once: HTTP, the session pools' API and MCP are shapes on it.

service         SessionService: the operations
session_values  what it tells of a session and of its cells
clients         what each client knows of a session, so that it is told of a restart
runs            cells of requests whose client may go away; `idempotency` retries that run nothing again
results         executions that can be asked for later
saved           the notebooks that sessions leave
notices         what became of a cell, for answers that have only text
image_facts     what a session's image holds

identity        who somebody is, and what that allows; `ownership` whose session an identifier means
authenticator   who sends a request: by key (`keys`) or by token (`oidc`, `discovery`)
requests        what a request carries once it was let in
failures        what a failure is to a client: status, code, body

settings        how the service is set; `settings_table` every setting, `state` where it keeps things
opening         opens the database, the notebooks and the pool; `readiness` whether it can serve
storage         what is kept; `schema` its tables
logs metrics traces   what it says of itself
"""
