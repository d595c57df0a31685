"""The session pools' API as it is on the wire, where the published clients do not look."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from kernel_sandbox.pool import PoolSettings
from tests.doors.http.running import DELETE, GEN1, GEN2, Running, running

VERSIONS = [
    "2024-02-02-preview",
    "2024-08-02-preview",
    "2024-10-02-preview",
    "2025-02-02-preview",
    "2025-10-02-preview",
]
CODE = {"codeInputType": "Inline", "executionType": "Synchronous"}


@pytest.fixture
def pool(server: Running, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    """A client of the second generation, with a session of the test's own."""
    query = {"identifier": f"of {request.node.name}", "api-version": GEN2}
    with server.client(params=query) as client:
        yield client
    server.end(query["identifier"])


def execute(pool: httpx.Client, code: str, **fields: Any) -> dict[str, Any]:
    answer = pool.post("/executions", json={**CODE, "code": code, **fields})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("2 + 2", 4),
        ("a = 'nan'; a", "'nan'"),
        ("float('nan')", "nan"),
        ("None", None),
        ("x = 1", ""),
        ("5;", ""),
        ("[1, 'a']", "[1, 'a']"),
    ],
)
def test_result_of_the_second_generation_is_as_printed(pool: httpx.Client, code: str, result: Any) -> None:
    told = execute(pool, code)
    assert told["status"] == "Succeeded"
    assert told["result"]["executionResult"] == result
    assert "error" not in told


def test_failed_execution_has_an_error(pool: httpx.Client) -> None:
    told = execute(pool, "print('before'); 1 / 0")
    assert told["status"] == "Failed"
    assert told["result"]["stdout"] == "before\n"
    assert told["result"]["executionResult"] is None
    assert told["error"]["error"]["code"] == "ExecutionFailed"
    assert told["error"]["error"]["message"] == "ZeroDivisionError: division by zero"


def test_execution_past_its_time_fails_and_keeps_the_session(pool: httpx.Client) -> None:
    execute(pool, "kept = 5")
    told = execute(pool, "print('began', flush=True)\nimport time\ntime.sleep(60)", timeoutInSeconds=1)
    assert told["status"] == "Failed"
    assert told["error"]["error"]["code"] == "Timeout"
    assert told["result"]["stdout"] == "began\n"
    assert execute(pool, "kept")["result"]["executionResult"] == 5


@pytest.mark.parametrize("seconds", [0, -1, 221, "60", True])
def test_time_out_out_of_bounds_is_refused(pool: httpx.Client, seconds: Any) -> None:
    answer = pool.post("/executions", json={**CODE, "code": "1", "timeoutInSeconds": seconds})
    assert answer.status_code == 400
    assert answer.json()["error"]["target"] == "timeoutInSeconds"


def test_code_in_base64_runs(pool: httpx.Client) -> None:
    code = base64.b64encode("'é' * 2".encode()).decode()
    assert execute(pool, code, codeInputType="InlineBase64")["result"]["executionResult"] == "'éé'"


def test_envelope_of_the_first_generation_is_taken_by_the_second(pool: httpx.Client) -> None:
    body = {"properties": {"codeInputType": "inline", "executionType": "synchronous", "code": "1 + 1"}}
    assert pool.post("/executions", json=body).json()["result"]["executionResult"] == 2


@pytest.mark.parametrize("longest", [1, 60, 4096])
def test_cut_streams_say_so_and_keep_both_ends(pool: httpx.Client, longest: int) -> None:
    told = execute(pool, "print('a' * 5000 + 'z' * 5000)", outputStreamsMaxLength=longest)
    said = told["result"]["stdout"]
    assert "cut here" in said
    if longest == 4096:
        assert len(said) <= longest
        assert said.startswith("aaaa")
        assert said.endswith("zzzz\n")


def test_streams_are_whole_unless_asked_otherwise(pool: httpx.Client) -> None:
    assert execute(pool, "print('a' * 1_000_000)")["result"]["stdout"] == "a" * 1_000_000 + "\n"


def test_more_pictures_than_the_api_carries_are_told_of(pool: httpx.Client) -> None:
    from tests.doors.http.test_llama_index import PLOT

    told = execute(pool, PLOT + "display(Image(png))")
    assert told["result"]["executionResult"]["type"] == "image"
    assert "2 pictures were shown" in told["result"]["stderr"]


def test_asynchronous_execution_is_polled_to_its_end(pool: httpx.Client) -> None:
    body = {**CODE, "executionType": "Asynchronous", "code": "import time; time.sleep(0.3); print('late'); 7"}
    answer = pool.post("/executions", json=body)
    assert answer.status_code == 202
    assert answer.json()["status"] == "Running"
    where = answer.headers["operation-location"]
    assert parse_qs(urlsplit(where).query)["identifier"] == [answer.json()["identifier"]]
    assert answer.headers["operation-id"] == answer.json()["id"]
    told = until_over(pool, where)
    assert told["status"] == "Succeeded"
    assert (told["result"]["stdout"], told["result"]["executionResult"]) == ("late\n", 7)


def until_over(client: httpx.Client, where: str) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        told: dict[str, Any] = client.get(where).raise_for_status().json()
        if told["status"] not in ("NotStarted", "Running"):
            return told
        time.sleep(0.05)
    raise AssertionError("the execution did not end")


def test_operation_location_has_the_prefix_of_the_request(pool: httpx.Client) -> None:
    body = {**CODE, "executionType": "Asynchronous", "code": "1"}
    where = pool.post("/some/pool%2Fhere/executions", json=body).headers["operation-location"]
    assert urlsplit(where).path.startswith("/some/pool%2Fhere/executions/")
    assert until_over(pool, where)["status"] == "Succeeded"


def test_execution_id_of_the_client_is_used_once(pool: httpx.Client) -> None:
    headers = {"operation-id": "mine-1"}
    first = pool.post("/executions", json={**CODE, "code": "1"}, headers=headers)
    assert first.headers["operation-id"] == "mine-1"
    assert pool.get("/executions/mine-1").json()["result"] == first.json()["result"]
    again = pool.post("/executions", json={**CODE, "code": "1"}, headers=headers)
    assert again.status_code == 409
    assert again.headers["x-ms-error-code"] == "ExecutionExists"


@pytest.mark.parametrize("kind", ["Synchronous", "Asynchronous"])
def test_requests_at_the_same_time_run_an_execution_id_once(pool: httpx.Client, kind: str) -> None:
    pool.post("/executions", json={**CODE, "code": "1"}).raise_for_status()
    body = {**CODE, "executionType": kind, "code": "open('/mnt/data/log', 'a').write('B')"}
    with ThreadPoolExecutor(8) as threads:
        posts = [
            threads.submit(pool.post, "/executions", json=body, headers={"operation-id": "raced"}) for _ in range(8)
        ]
    assert sorted(post.result().status_code for post in posts)[1:] == [409] * 7
    assert until_over(pool, "/executions/raced")["status"] == "Succeeded"
    assert pool.get("/files/log/content").text == "B"


def test_execution_of_another_session_is_missing(server: Running, pool: httpx.Client) -> None:
    pool.post("/executions", json={**CODE, "code": "1"}, headers={"operation-id": "mine-2"})
    with server.client(params={"identifier": "another", "api-version": GEN2}) as other:
        assert other.get("/executions/mine-2").status_code == 404


@pytest.mark.parametrize(
    ("body", "streams"),
    [
        ({"shellCommand": "echo $0; exit 7"}, ("bash\n", "", "7")),
        ({"shellCommand": "echo $0", "shellType": "sh"}, ("sh\n", "", "0")),
        ({"execCommandAndArgs": ["printf", "%s|", "a b", "$HOME"]}, ("a b|$HOME|", "", "0")),
        ({"execCommandAndArgs": ["no-such-program"]}, ("", "no-such-program: No such file or directory\n", "127")),
        ({"shellCommand": "kill -9 $$"}, ("", "", "137")),
    ],
)
def test_shell_command_tells_its_exit_status(pool: httpx.Client, body: Any, streams: tuple[str, str, str]) -> None:
    told = pool.post("/executions", json=body).json()
    assert (told["result"]["stdout"], told["result"]["stderr"], told["status"]) == streams


def test_shell_command_past_its_time_is_killed(pool: httpx.Client) -> None:
    started = time.monotonic()
    body = {"shellCommand": "echo began; sleep 60", "timeoutInSeconds": 1}
    told = pool.post("/executions", json=body).json()
    assert time.monotonic() - started < 20
    assert (told["result"]["stdout"], told["status"]) == ("began\n", "124")
    assert "longer than 1 s" in told["result"]["stderr"]
    assert pool.post("/executions", json={"shellCommand": "grep -qx sleep /proc/[0-9]*/comm"}).json()["status"] == "1"


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"code": 1},
        {"code": "1", "codeInputType": "Elsewhere"},
        {"code": "%", "codeInputType": "InlineBase64"},
        {"code": "1", "outputStreamsMaxLength": 0},
        {"code": "1", "useEmptyKernel": True},
        {"shellCommand": "true", "codeInputType": "Inline"},
        {"shellCommand": "true", "execCommandAndArgs": ["true"]},
        {"shellCommand": ""},
        {"execCommandAndArgs": []},
        {"execCommandAndArgs": "true"},
    ],
)
def test_body_that_is_not_understood_is_refused(pool: httpx.Client, body: Any) -> None:
    answer = pool.post("/executions", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == answer.headers["x-ms-error-code"] == "InvalidRequest"


def test_body_that_is_no_json_is_refused(pool: httpx.Client) -> None:
    assert pool.post("/executions", content=b"{").status_code == 400
    assert pool.post("/executions", content=b"[" * 100_000).status_code == 400


@pytest.mark.parametrize("version", [None, "", "2023-01-01", "2025-02-02"])
def test_unknown_version_is_refused_with_the_known_ones(server: Running, version: str | None) -> None:
    query = {"identifier": "a"} | ({} if version is None else {"api-version": version})
    with server.client() as client:
        for method, path in (("POST", "/code/execute"), ("GET", "/files"), ("GET", "/session"), ("GET", "/metadata")):
            answer = client.request(method, path, params=query)
            assert answer.status_code == 400
            assert answer.json()["error"]["code"] == "InvalidApiVersion"
            assert answer.headers["api-supported-versions"] == ", ".join(VERSIONS)


@pytest.mark.parametrize("identifier", ["", "x" * 257, "a\nb", "a\0"])
def test_identifier_that_cannot_be_is_refused(client: httpx.Client, identifier: str) -> None:
    for version in (GEN1, GEN2):
        answer = client.get("/files", params={"identifier": identifier, "api-version": version})
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "InvalidIdentifier"


def test_missing_identifier_is_refused(client: httpx.Client) -> None:
    answer = client.get("/files", params={"api-version": GEN1})
    assert (answer.status_code, answer.json()["error"]["target"]) == (400, "identifier")


@pytest.mark.parametrize("version", VERSIONS)
def test_listing_has_the_shape_of_its_generation(server: Running, pool: httpx.Client, version: str) -> None:
    execute(pool, "import os; os.makedirs('d', exist_ok=True); open('d/f.txt', 'w').write('12345')")
    (shown,) = pool.get("/files", params={"api-version": version}).json()["value"]
    if version < "2024-10":
        assert (shown["properties"]["filename"], shown["properties"]["size"]) == ("d/f.txt", 5)
        assert shown["properties"]["lastModifiedTime"].endswith("Z")
    else:
        assert (shown["name"], shown["type"], shown["directory"]) == ("d", "Directory", "/mnt/data")


def test_directory_is_listed_by_path_and_recursively(pool: httpx.Client) -> None:
    execute(pool, "import os; os.makedirs('d/e'); [open(n, 'w').write('1') for n in ('d/f', 'd/e/g', 'top')]")

    def names(**query: Any) -> list[str]:
        return [shown["name"] for shown in pool.get("/files", params=query).json()["value"]]

    assert names() == names(path="") == names(path="/mnt/data") == ["d", "top"]
    assert names(path="d") == names(path="/mnt/data/d") == ["e", "f"]
    assert names(recursive=True) == ["d", "d/e", "d/e/g", "d/f", "top"]


def test_file_is_described_and_deleted_in_both_generations(pool: httpx.Client) -> None:
    execute(pool, "[open(n, 'w').write('123') for n in ('a', 'b')]")
    assert pool.get("/files/a", params={"api-version": GEN1}).json()["properties"]["size"] == 3
    described = pool.get("/files/a").json()
    assert (described["name"], described["type"], described["sizeInBytes"]) == ("a", "File", 3)
    gone = pool.delete("/files/a", params={"api-version": GEN1})
    assert (gone.status_code, gone.json()) == (200, {"message": "file deleted successfully"})
    assert pool.delete("/files/b").status_code == 204
    missing = pool.delete("/files/b")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "FileNotFound")


def test_file_named_content_is_told_apart_by_the_version(pool: httpx.Client) -> None:
    execute(pool, "open('content', 'w').write('c')")
    assert pool.get("/files/content/content", params={"api-version": GEN1}).content == b"c"
    assert pool.get("/files/content/content").content == b"c"


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "/mnt/data/../x", "a//b", "a\nb", "a\x9bb"])
def test_file_name_outside_is_refused(pool: httpx.Client, name: str) -> None:
    execute(pool, "1")
    for path in ("/files/upload", "/files"):
        answer = pool.post(path, files={"file": (name, b"x", "application/octet-stream")})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "FilePathInvalid")


@pytest.mark.parametrize("name", ["..%2Fx", "%2Fetc%2Fpasswd", "%00", "a%C2%9Bb"])
def test_path_outside_is_refused(pool: httpx.Client, name: str) -> None:
    execute(pool, "1")
    for path in (f"/files/{name}/content", f"/files/{name}"):
        assert pool.get(path).status_code == 400
    assert pool.get(f"/files/content/{name}", params={"api-version": GEN1}).status_code == 400


def test_symbolic_link_is_no_way_out(pool: httpx.Client) -> None:
    execute(pool, "import os; os.symlink('/etc/passwd', 'link')")
    assert pool.get("/files/link/content").status_code == 400


def test_upload_without_a_file_is_refused(pool: httpx.Client) -> None:
    assert pool.post("/files", data={"file": "text"}).status_code == 400
    assert pool.post("/files", content=b"no form").status_code == 400
    broken = {"content-type": "multipart/form-data; boundary=x"}
    assert pool.post("/files", content=b"--y\r\n\r\nz", headers=broken).status_code == 400


def test_session_is_told_about_listed_and_ended(server: Running, pool: httpx.Client) -> None:
    identifier = str(pool.params["identifier"])
    assert pool.get("/session").json()["error"]["code"] == "NoSessionFoundError"
    execute(pool, "1")
    told = pool.get("/session").json()
    assert told["identifier"] == identifier
    assert told["createdAt"] <= told["lastAccessedAt"] < told["expiresAt"] == told["expireAt"]
    assert pool.post("/.management/getSession").json()["identifier"] == identifier
    assert identifier in [each["identifier"] for each in pool.get("/listSessions").json()["sessions"]]
    listed = pool.post("/.management/listSessions", params={"skip": "0"}).json()
    assert identifier in [each["identifier"] for each in listed["value"]]
    assert listed["count"] == len(listed["value"])
    stopped = pool.post("/.management/stopSession")
    assert (stopped.status_code, stopped.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert pool.post("/.management/stopSession").status_code == 404
    assert pool.delete("/session", params={"api-version": DELETE}).status_code == 204


def test_reading_makes_no_session(pool: httpx.Client) -> None:
    assert pool.get("/files").json() == {"value": [], "nextLink": None}
    assert pool.get("/files/x/content").status_code == 404
    assert pool.get("/session").status_code == 404


def test_metadata_tells_what_the_image_holds(client: httpx.Client) -> None:
    told = client.get("/metadata", params={"api-version": DELETE}).json()
    packages = {each["name"]: each["version"] for each in told["preInstalledPackages"]}
    assert "ipykernel" in packages
    assert told["runtimes"][0]["version"].startswith("3.")
    assert told["jupyterKernel"]["name"] == "ipython"


def test_first_clients_are_answered_at_the_top_level(client: httpx.Client, server: Running) -> None:
    body = {"properties": {"identifier": "gen 0", "codeInputType": "inline", "pythonCode": "print('x'); 3"}}
    told = client.post("/pool/python/execute", json=body).json()
    assert (told["stdout"], told["result"], told["error"]) == ("x\n", 3, None)
    server.end("gen 0")


def test_first_generation_tells_its_timings(server: Running, client: httpx.Client) -> None:
    query = {"identifier": "timed", "api-version": GEN1}
    body = {"properties": {"code": "import time; time.sleep(0.3)"}}
    first, second = (client.post("/code/execute", params=query, json=body).headers for _ in range(2))
    assert (first["x-ms-new-allocation"], second["x-ms-new-allocation"]) == ("true", "false")
    assert int(second["x-ms-container-execution-duration"]) >= 200
    assert first["x-ms-session-guid"] == second["x-ms-session-guid"]
    server.end("timed")


@pytest.mark.parametrize("path", ["/files/upload", "/files"])
def test_form_under_the_type_of_json_is_taken(server: Running, path: str) -> None:
    """As semantic-kernel's client sends it: its cells have left their Content-Type on the connection's headers."""
    query = {"identifier": "a form as json", "api-version": GEN1}
    with server.client(params=query) as pool:
        pool.headers["Content-Type"] = "application/json"
        pool.post("/code/execute", json={"properties": {**CODE, "code": "1"}}).raise_for_status()
        sent = {"file": ("/mnt/data/in.csv", b"a,b\r\n--1,2\n", "application/octet-stream")}
        assert pool.post(path, files=sent).status_code == 200
        assert pool.get("/files/content/in.csv").content == b"a,b\r\n--1,2\n"
        assert pool.post(path, content=b'{"file": "x"}').status_code == 400
    server.end(query["identifier"])


def test_session_that_follows_one_at_its_lifetime_is_told_as_new(server_engine: str, tmp_path: Path) -> None:
    pool, query = PoolSettings(ready=1, sessions=2, max_lifetime=4.0), {"identifier": "old", "api-version": GEN1}
    with (
        running(tmp_path, engine=server_engine, pool=pool) as server,
        server.client(params=query) as client,
        ThreadPoolExecutor() as threads,
    ):

        def run(code: str) -> httpx.Response:
            return client.post("/code/execute", json={"properties": {"code": code}}).raise_for_status()

        assert run("x = 1").headers["x-ms-new-allocation"] == "true"
        outlives = threads.submit(run, "import time; time.sleep(8); 'x' in dir()")
        time.sleep(5)
        follows = run("'x' in dir()")
        assert (outlives.result().json()["properties"]["result"], follows.json()["properties"]["result"]) == (
            "True",
            "False",
        )
        assert follows.headers["x-ms-new-allocation"] == "true"
        assert outlives.result().headers["x-ms-new-allocation"] == "false"
