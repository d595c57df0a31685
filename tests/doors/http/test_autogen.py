"""The published AutoGen client, unmodified, against a running server: functions, files, failures, a new session."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from autogen_core import CancellationToken
from autogen_core.code_executor import CodeBlock, with_requirements
from autogen_ext.code_executors.azure import ACADynamicSessionsCodeExecutor
from azure.core.credentials import AccessToken

from tests.doors.http.running import Running


class Credential:
    """Gives out tokens without asking anybody."""

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return AccessToken("a token", 2**40)


@with_requirements(python_packages=["ipykernel"])
def double(number: int) -> int:
    """Double a number."""
    return 2 * number


def executor(server: Running, directory: Path, **given: Any) -> ACADynamicSessionsCodeExecutor:
    return ACADynamicSessionsCodeExecutor(server.address, Credential(), work_dir=directory, **given)


async def run(client: ACADynamicSessionsCodeExecutor, *cells: str) -> tuple[int, str]:
    blocks = [CodeBlock(code=cell, language="python") for cell in cells]
    ran = await client.execute_code_blocks(blocks, CancellationToken())
    return ran.exit_code, ran.output


def test_packages_and_functions_are_there(server: Running, tmp_path: Path) -> None:
    async def main() -> None:
        client = executor(server, tmp_path, functions=[double])
        assert await run(client, "print(double(21))") == (0, "42\n")
        assert {"ipykernel", "ipython"} <= await client.get_available_packages(CancellationToken())
        assert (await run(client, "! pip install no-such-package"))[0] == 1

    asyncio.run(main())


def test_state_stays_until_it_restarts(server: Running, tmp_path: Path) -> None:
    async def main() -> None:
        client = executor(server, tmp_path)
        assert await run(client, "kept = 6", "kept * 7") == (0, "42")
        assert (await run(client, "1 / 0"))[1].rstrip().endswith("ZeroDivisionError: division by zero")
        await client.restart()
        assert (await run(client, "kept"))[0] == 1

    asyncio.run(main())


def test_files_go_there_and_back(server: Running, tmp_path: Path) -> None:
    async def main() -> None:
        client, token = executor(server, tmp_path), CancellationToken()
        (tmp_path / "in.txt").write_text("hello")
        await client.upload_files(["in.txt"], token)
        assert (await run(client, "open('out.txt', 'w').write(open('in.txt').read().upper())"))[0] == 0
        assert sorted(await client.get_file_list(token)) == ["in.txt", "out.txt"]
        await client.download_files(["out.txt"], token)
        assert (tmp_path / "out.txt").read_text() == "HELLO"

    asyncio.run(main())
