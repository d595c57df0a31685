"""Where a command is started and what is typed: programs, settings, links, names that are nearly ours."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import nbformat
from nbclient import NotebookClient
from rich.console import Console

from kernel_sandbox import (
    ImageNotFound,
    SandboxError,
    SandboxSpec,
    Session,
    Transcript,
    TranscriptError,
    export_notebook,
)
from kernel_sandbox.doors.cli import keeping
from kernel_sandbox.doors.cli.app import cli
from kernel_sandbox.sandbox.engines.bubblewrap_shelf import SWITCH
from kernel_sandbox.service import settings
from kernel_sandbox.service.state import default_database
from kernel_sandbox.setup import kernelspec
from kernel_sandbox.terminal.console import Screen
from tests.agents.model_server import Call, Say, model_server
from tests.redteam.without import seams
from tests.redteam.without.removal import Ground, Removal
from tests.shadowing import shadow, shadow_programs


def advice_with_the_name_as_it_was_typed(ground: Ground) -> None:
    ground.replace(seams.PULL_ADVICE, lambda name, there: f"Get it with: docker pull {name}")


def be_pulled_by_mistake(ground: Ground) -> bool:
    """As the image of whoever has registered the mistyped name."""
    try:
        with ground.session(image="datasciens"):
            return False
    except ImageNotFound as exc:
        return "docker pull datasciens" in str(exc)


def unasked(ground: Ground) -> None:
    ground.replace(seams.CONSENT, lambda screen, found: True)


def close_models(ground: Ground) -> None:
    """Close the connections that a command leaves to the end of its process."""
    made = seams.MODEL.current

    def make_model(*given: Any, **named: Any) -> Any:
        model = made(*given, **named)
        ground.undo.callback(getattr(model, "close", int))
        return model

    ground.replace(seams.MODEL, make_model)


def get_the_data_by_a_file(ground: Ground) -> bool:
    """Of somebody who asks a question in a directory of the attacker's, whose `.env` names their server."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        ground.patch.setenv(name, "")
        ground.patch.delenv(name)
    ground.patch.chdir(ground.path)
    close_models(ground)
    (ground.path / "sales.csv").write_text("city,sold\nOslo,4711\n")
    with model_server(Say("Thank you.")) as thief:
        (ground.path / ".env").write_text(f"OPENAI_BASE_URL={thief.url}\nOPENAI_API_KEY=thiefs\n")
        arguments = ["ask", "How?", "--data", "sales.csv", "--image", "python", "--engine", ground.engine]
        with contextlib.suppress(click.UsageError):
            cli.main(arguments, standalone_mode=False)
    return "4711" in str(thief.requests)


def kernel_of_the_notebook_itself(ground: Ground) -> None:
    ground.replace(seams.PROVENANCE, lambda self, info, language, provenance: None)


def be_run_on_the_host_when_opened_again(ground: Ground) -> bool:
    """By the kernel that the attacker's notebook names, once its transcript is opened in Jupyter."""
    place = ground.path / "written"
    named = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    transcript = Transcript(metadata=named)
    with Session(engine=ground.engine, image="python", transcript=transcript) as session:
        session.execute(f"open({str(place)!r}, 'w').write('out')")
        saved = session.transcript.save(ground.path / "saved.ipynb")
    ground.patch.setenv("JUPYTER_PATH", str(ground.path))
    kernelspec.install(ground.path / "kernels", engine=ground.engine, spec=SandboxSpec(image="python"))
    notebook = nbformat.read(saved, as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(notebook, allow_errors=True, timeout=60).execute()
    return place.exists()


def any_kernel(ground: Ground) -> None:
    ground.replace(seams.SANDBOXED_KERNEL, lambda: True)


def be_offered_to_the_hosts_python(ground: Ground) -> bool:
    """By the last line of a command, where somebody else's kernel bears the name of the sandboxed one."""
    directory = ground.path / "kernels" / kernelspec.DEFAULT_NAME
    directory.mkdir(parents=True)
    (directory / "kernel.json").write_text('{"argv": ["python3"], "display_name": "x", "language": "python"}')
    ground.patch.setenv("JUPYTER_PATH", str(ground.path))
    screen = io.StringIO()
    keeping.say_where(Screen(Console(file=screen)), Path("out.ipynb"))
    return "jupyter lab out.ipynb" in screen.getvalue() and "Jupyter lacks" not in screen.getvalue()


def every_entry(ground: Ground) -> None:
    def search_path(variable: str = "PATH", environ: Mapping[str, str] = os.environ) -> list[str]:
        return environ.get(variable, os.defpath).split(os.pathsep)

    ground.replace(seams.PROGRAM_PATH, search_path)


def be_run_in_place_of_bubblewrap(ground: Ground) -> bool:
    """By a user whose PATH has the working directory, in a directory of the attacker's."""
    canary = ground.path / "canary"
    shadow_programs(ground.path, canary)
    ground.patch.chdir(ground.path)
    ground.patch.setenv(SWITCH, "off")  # no template stands in for bubblewrap
    ground.patch.setenv("PATH", os.pathsep.join(["", os.environ["PATH"]]))
    with contextlib.suppress(SandboxError), ground.session():
        pass
    return canary.exists()


def any_environment(ground: Ground) -> None:
    ground.replace(seams.PROGRAM_ENVIRONMENT, dict)


def be_imported_by_what_is_started(ground: Ground) -> bool:
    """By a user whose PYTHONPATH has an empty entry, as `PYTHONPATH=$PYTHONPATH:/lib` often leaves it."""
    canary = shadow(ground.path)
    ground.patch.chdir(ground.path)
    ground.patch.setenv("PYTHONPATH", os.pathsep.join(["", "/nowhere"]))
    with contextlib.suppress(SandboxError):
        export_notebook(Transcript())
    return canary.exists()


def relative_directories(ground: Ground) -> None:
    def state(*, of_service: bool = False) -> Path:
        return Path(os.environ["XDG_STATE_HOME"], "kernel-sandbox")

    ground.replace(seams.STATE_DIRECTORY, state)


def bring_keys_to_the_service(ground: Ground) -> bool:
    """In a database that lies in the directory in which the service is started."""
    planted = ground.path / "state" / "kernel-sandbox" / "server.db"
    planted.parent.mkdir(parents=True)
    planted.write_bytes(b"with the attacker's key")
    ground.patch.chdir(ground.path)
    ground.patch.setenv("XDG_STATE_HOME", "state")
    taken = Path(default_database())
    return taken.exists() and taken.samefile(planted)


def modules_of_the_notebooks_directory(ground: Ground) -> None:
    ground.replace(seams.KERNELSPEC_ISOLATION, lambda: "-P")


def be_imported_beside_a_notebook(ground: Ground) -> bool:
    """By a front end that runs the kernelspec's command, for a user whose PYTHONPATH has an empty entry."""
    canary = shadow(ground.path)
    argv = kernelspec.kernelspec_document(ground.engine, SandboxSpec(image="python"))["argv"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(["", "/nowhere"])}
    subprocess.run(argv, cwd=ground.path, env=environment, capture_output=True, timeout=60, check=False)
    return canary.exists()


def any_path(ground: Ground) -> None:
    ground.replace(seams.RELATIVE_SETTING, lambda value: False)


def bring_keys_by_a_relative_setting(ground: Ground) -> bool:
    """In a database that lies in the directory in which the service is started."""
    (ground.path / "server.db").write_bytes(b"with the attacker's key")
    ground.patch.chdir(ground.path)
    with contextlib.suppress(SandboxError):
        taken = settings.load(None, {f"{settings.PREFIX}DATABASE": "server.db"}, {}).database
        return Path(taken).samefile(ground.path / "server.db")
    return False


def any_link(ground: Ground) -> None:
    ground.replace(seams.LINKS_TO_A_FILE, lambda path: None)


def have_a_notebook_written_over(ground: Ground) -> bool:
    """By a link with the name of the directory that the user will give to a notebook."""
    (ground.path / "home").mkdir()
    (ground.path / "home" / "out.ipynb").write_text("mine")
    (ground.path / "results").symlink_to("home")
    ground.patch.chdir(ground.path)
    with contextlib.suppress(TranscriptError):
        Transcript().save("results/out.ipynb")
    return (ground.path / "home" / "out.ipynb").read_text() != "mine"


def linked_directories(ground: Ground) -> None:
    beside = ground.path.parent / ground.path.name
    ground.replace(seams.FIGURES_DIRECTORY, lambda save, output_dir: beside / "out_files")


def have_files_written_elsewhere(ground: Ground) -> bool:
    """By a link in the place of the directory in which figures are kept."""
    (ground.path / "home").mkdir()
    (ground.path / "out_files").symlink_to("home")
    show = "from IPython.display import display\ndisplay({'image/svg+xml': '<svg/>', 'text/plain': ''}, raw=True)"
    (ground.path / "cell.py").write_text(show)
    ground.patch.chdir(ground.path)
    arguments = ["run", "cell.py", "--save", "out.ipynb", "--image", "python", "--engine", ground.engine]
    with contextlib.suppress(click.UsageError):
        cli.main(arguments, standalone_mode=False)
    return any((ground.path / "home").iterdir())


def any_mount(ground: Ground) -> None:
    ground.replace(seams.LINK_FOR_A_MODEL, lambda named, path: None)


def have_a_model_told_what_a_link_shows(ground: Ground) -> bool:
    """By a link with the name of the data that the user mounts for a question."""
    (ground.path / "here").mkdir()
    (ground.path / "home").mkdir()
    (ground.path / "home" / "secret").write_text("4711")
    (ground.path / "here" / "data").symlink_to(ground.path / "home")
    ground.patch.chdir(ground.path / "here")
    close_models(ground)
    read = Call([("execute_python_code", {"python_code": "open('/mnt/input/data/secret').read()"})])
    with model_server(read, Say("Thank you.")) as server:
        arguments = ["ask", "How?", "--mount", "data", "--image", "python", "--engine", ground.engine]
        with contextlib.suppress(SandboxError):
            cli.main([*arguments, "--base-url", server.url], standalone_mode=False)
    return "4711" in str(server.requests)


REMOVALS = {
    "links refused to a model": Removal(
        severity="Exfil", remove=any_mount, succeeds=have_a_model_told_what_a_link_shows
    ),
    "kernelspec isolated": Removal(
        severity="Escape", remove=modules_of_the_notebooks_directory, succeeds=be_imported_beside_a_notebook
    ),
    "paths of settings absolute": Removal(
        severity="Lateral", remove=any_path, succeeds=bring_keys_by_a_relative_setting
    ),
    "programs by absolute entries": Removal(
        severity="Escape", remove=every_entry, succeeds=be_run_in_place_of_bubblewrap, engines=("bubblewrap",)
    ),
    "environment without relative paths": Removal(
        severity="Escape", remove=any_environment, succeeds=be_imported_by_what_is_started
    ),
    "the user's directories absolute": Removal(
        severity="Escape", remove=relative_directories, succeeds=bring_keys_to_the_service
    ),
    "nothing written through a link": Removal(
        severity="HostDoS", remove=any_link, succeeds=have_a_notebook_written_over
    ),
    "figures in no linked directory": Removal(
        severity="HostDoS", remove=linked_directories, succeeds=have_files_written_elsewhere
    ),
    "transcripts name the sandboxed kernel": Removal(
        severity="Escape", remove=kernel_of_the_notebook_itself, succeeds=be_run_on_the_host_when_opened_again
    ),
    "the sandboxed kernel looked for": Removal(
        severity="Escape", remove=any_kernel, succeeds=be_offered_to_the_hosts_python
    ),
    "a file's server asked about": Removal(severity="Exfil", remove=unasked, succeeds=get_the_data_by_a_file),
    "near names first": Removal(
        severity="Escape", remove=advice_with_the_name_as_it_was_typed, succeeds=be_pulled_by_mistake
    ),
}
