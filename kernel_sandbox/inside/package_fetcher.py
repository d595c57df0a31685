"""Resolves and downloads an image's packages, with pip, in a sandbox that has a network and runs nothing of theirs.

`python3 package_fetcher.py CONFIG`; CONFIG is a file of JSON:

    pip            pip's own wheel, the one that the images are locked to
    requirements   what is asked for: the text of a requirements file
    constraints    the versions of what is there already: the same
    apart          whether what is there already counts for nothing, as for a directory that is to hold it all
    wheels         a directory of wheels that are at hand
    have           SHA-256 of files that the host has, and need not be sent
    scratch        a directory for what is downloaded

Standard output: a line of JSON, then the bytes of the files that it names, one after the other. `status` is

    resolved   `packages`: name, version, file, sha256 and size of each; a size of 0 is a file that the host has
    source     pip wants the metadata of a source archive, which only its own code can make: `file` and `size`
    failed     `kind` (see Failures), and what belongs to it

pip builds a source archive as soon as it needs to know more about it. Here that ends the run instead: whoever reads
the answer builds the archive where there is no network, and asks again with the wheel.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

MOST_VERSIONS = 12
MOST_CAUSES = 12
CLOSED = (401, 403, 407)
"""What a server or a proxy answers to whom it does not know (RFC 9110); some say 403 of what they do not have."""


class SourceNeeded(Exception):
    """A source archive would have to be built to go on."""


class AddressNeeded(Exception):
    """A package names an address from which another is to come."""


class Outcome:
    """What became of a run, beside pip's own words."""

    def __init__(self) -> None:
        self.source: str | None = None
        self.failure: dict[str, Any] | None = None
        self.unreachable: list[str] = []
        self.closed: list[str] = []


def watch(outcome: Outcome, scratch: str) -> None:
    """Have pip's resolver say what it found, and stop before it would run a package's code."""
    sdist: Any = importlib.import_module("pip._internal.distributions.sdist")
    factory = importlib.import_module("pip._internal.resolution.resolvelib.factory").Factory
    collector: Any = importlib.import_module("pip._internal.index.collector")
    install_requirement = importlib.import_module("pip._internal.req.req_install").InstallRequirement

    def stop(self: Any, *arguments: Any, **named: Any) -> None:
        place = Path(scratch, "source")
        place.mkdir(exist_ok=True)
        outcome.source = str(shutil.copy(self.req.local_file_path, place))  # pip removes its own when it ends
        raise SourceNeeded(str(self.req))

    honest_requirements = factory._make_requirements_from_install_req

    def without_addresses(self: Any, requirement: Any, requested_extras: Any) -> Any:
        if requirement.link is not None and isinstance(requirement.comes_from, install_requirement):
            by = str(requirement.comes_from.name)
            outcome.failure = {"kind": "address", "name": str(requirement.name), "by": by}
            raise AddressNeeded(by)
        return honest_requirements(self, requirement, requested_extras)

    honest_error = factory.get_installation_error

    def told_error(self: Any, error: Any, constraints: Any) -> Any:
        outcome.failure = describe(self, error.causes, constraints)
        return honest_error(self, error, constraints)

    honest_miss = collector._handle_get_simple_fail

    def told_miss(link: Any, reason: Any, meth: Any = None) -> None:
        status = getattr(getattr(reason, "response", None), "status_code", None)
        place = link.netloc.rpartition("@")[2] or link.path
        if status in CLOSED:
            outcome.closed.append(f"{place}: {status}")
        elif status != 404:
            outcome.unreachable.append(place)
        honest_miss(link, reason, meth)

    sdist.SourceDistribution.prepare_distribution_metadata = stop
    factory._make_requirements_from_install_req = without_addresses
    factory.get_installation_error = told_error
    collector._handle_get_simple_fail = told_miss


def describe(factory: Any, causes: Any, constraints: Any) -> dict[str, Any]:
    """Return what could not be had together, each with who wants it and which versions there are."""
    told = []
    for requirement, parent in list(causes)[:MOST_CAUSES]:
        name = requirement.name.partition("[")[0]
        of_python = type(requirement).__name__ == "RequiresPythonRequirement"
        held = str(constraints[name].specifier) if name in constraints and not of_python else ""
        found = [] if of_python else factory._finder.find_all_candidates(name)
        versions = [str(each) for each in sorted({candidate.version for candidate in found})]
        by = f"{parent.name} {parent.version}" if parent is not None else ""
        kind = "python" if of_python else "package"
        told.append({"kind": kind, "name": name, "wants": requirement.format_for_error(), "by": by, "held": held})
        told[-1]["versions"] = versions[-MOST_VERSIONS:]
    return {"kind": "conflict", "causes": told}


def resolve(config: dict[str, Any], outcome: Outcome) -> list[dict[str, Any]] | None:
    """Return what pip would install, or None where it would not."""
    scratch = Path(config["scratch"])
    (scratch / "wanted.txt").write_text(config["requirements"])
    (scratch / "held.txt").write_text(config["constraints"])
    report = scratch / "report.json"
    command = ["install", "--dry-run", "--prefer-binary", f"--report={report}", f"--find-links={config['wheels']}"]
    command += [f"--requirement={scratch}/wanted.txt", f"--constraint={scratch}/held.txt"]
    command += ["--ignore-installed"] if config["apart"] else []
    if run(command) or not report.exists():
        return None
    packages = []
    for item in json.loads(report.read_text())["install"]:
        download = item["download_info"]
        name, version = item["metadata"]["name"], item["metadata"]["version"]
        sha256 = download["archive_info"]["hashes"]["sha256"]
        packages.append({"name": name, "version": version, "sha256": sha256, "size": 0})
        packages[-1]["file"] = unquote(download["url"].partition("#")[0].rpartition("/")[2])
    return packages


def run(command: list[str]) -> int:
    main = importlib.import_module("pip._internal.cli.main").main
    shared = ["--disable-pip-version-check", "--no-input", *command[:1], "--progress-bar=off", "--cache-dir=/cache"]
    return int(main([*shared, *command[1:]]))


def download(config: dict[str, Any], packages: list[dict[str, Any]]) -> list[Path] | None:
    """Download what the host has not, and note the sizes; None where that failed."""
    missing = [package for package in packages if package["sha256"] not in config["have"]]
    scratch = Path(config["scratch"])
    lock = "".join(f"{each['name']}=={each['version']} --hash=sha256:{each['sha256']}\n" for each in missing)
    (scratch / "missing.txt").write_text(lock)
    target = scratch / "files"
    command = ["download", "--no-deps", "--require-hashes", "--only-binary=:all:", f"--dest={target}"]
    command += [f"--find-links={config['wheels']}", f"--requirement={scratch}/missing.txt"]
    if missing and run(command):
        return None
    for package in missing:
        package["size"] = (target / package["file"]).stat().st_size
    return [target / package["file"] for package in missing]


def answer(config: dict[str, Any], outcome: Outcome) -> tuple[dict[str, Any], list[Path]]:
    """Return the line that tells what came of it, and the files to send."""
    packages = resolve(config, outcome)
    files = download(config, packages) if packages is not None else None
    if packages is not None and files is not None:
        return {"status": "resolved", "packages": packages}, files
    if outcome.source is not None:
        archive = Path(outcome.source)
        return {"status": "source", "file": archive.name, "size": archive.stat().st_size}, [archive]
    failure = outcome.failure or {"kind": "pip"}
    places = {"unreachable": sorted(set(outcome.unreachable))[:4], "closed": sorted(set(outcome.closed))[:4]}
    return {"status": "failed", **failure, **places}, []


if __name__ == "__main__":
    configuration = json.loads(Path(sys.argv[1]).read_text())
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what pip says is not the answer
    sys.path.insert(0, configuration["pip"])
    found = Outcome()
    watch(found, configuration["scratch"])
    line, sent = answer(configuration, found)
    stream.write(json.dumps(line).encode() + b"\n")
    for path in sent:
        with path.open("rb") as source:
            shutil.copyfileobj(source, stream)
    stream.close()
