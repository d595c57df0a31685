"""What removals take away, by name, and where it stands: what the package renames is renamed here, in one line.

`ground.replace(seams.BOUNDS, …)` has something else stand there; `seams.BOUNDS.current` is what stands there, an
earlier removal's included. What runs in the sandbox goes there as text: `edits` has a Passage of it read otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.places import owner_of


class Seam:
    """A name of the package; at several places where modules import it from each other, or two names go together."""

    def __init__(self, *places: str) -> None:
        self.places = tuple(f"kernel_sandbox.{place}" for place in places)

    @property
    def current(self) -> Any:
        owner, name = owner_of(self.places[0])
        return getattr(owner, name)


@dataclass(frozen=True)
class Passage:
    """A piece of the source of what runs in the sandbox."""

    module: str
    text: str


# What the engines are told

CONTAINER_PROFILE = Seam("sandbox.engines.docker:_profile")
CONTAINER_LABELS = Seam("sandbox.engines.docker:_labels")
CONTAINER_TMPFS = Seam("sandbox.engines.docker:_tmpfs")
CONTAINER_GROUPS = Seam("sandbox.engines.docker_host:bound")
BUBBLEWRAP_COMMAND = Seam("sandbox.engines.bubblewrap_profile:Profile.command")
BUBBLEWRAP_DEVICES = Seam("sandbox.engines.bubblewrap_profile:_devices")
BUBBLEWRAP_MASKS = Seam("sandbox.engines.bubblewrap_profile:_masks")
PREPARATION = Seam("sandbox.engines.bubblewrap_profile:Profile.preparation")
PREPARE_SOURCE = Seam("sandbox.engines.bubblewrap_profile:_prepare_source")
GUEST_SOURCE = Seam("sandbox.link:_source")
GROUP_VALUES_V1 = Seam("sandbox.engines.control_groups:_values_v1")
GROUP_VALUES_UNIFIED = Seam("sandbox.engines.control_groups:_values_unified")
USER_RANGE = Seam("sandbox.engines.docker:USER_RANGE", "sandbox.engines.bubblewrap_profile:USER_RANGE")
ALLOWED_CALLS = Seam("sandbox.engines.seccomp:ALLOWED")
ARGUMENT_RULES = Seam("sandbox.engines.call_arguments:rules")
CONTAINER_FILTER = Seam("sandbox.engines.docker:docker_profile")
BUBBLEWRAP_FILTER = Seam("sandbox.engines.bubblewrap_profile:filter_program")
PULL_ADVICE = Seam("sandbox.engines.docker:how_to_get")

OF_OWN_STARTS = (BUBBLEWRAP_COMMAND, BUBBLEWRAP_DEVICES, BUBBLEWRAP_MASKS, PREPARE_SOURCE, USER_RANGE)
"""What only bubblewrap's own start reads: no template does."""

TEMPLATE_ORIGIN = Seam("sandbox.engines.bubblewrap_template:Origin")
TEMPLATE_FILTER = Seam("sandbox.engines.bubblewrap_template:template_program")
TEMPLATE_COUNTS = Seam("sandbox.engines.bubblewrap_template:_shares")
TEMPLATE_PATIENCE = Seam("sandbox.engines.bubblewrap_template:PATIENCE")
KEEPER_SOURCE = Seam("sandbox.engines.bubblewrap_template:_source")

# A sandbox and the ways into it

KERNEL_ENVIRONMENT = Seam("sandbox.live_kernel:kernel_environment")
PROMISES = Seam("sandbox.guarding:judge")
DEATH_WATCHER = Seam("sandbox.sandbox:LiveSandbox._watch")
GATE_BOUNDS = Seam("sandbox.live_kernel:bounds", "sandbox.sandbox:bounds")
GREETING = Seam("sandbox.zmtp:_check_greeting")
HANDSHAKE = Seam("sandbox.wire:Connection._obey")
BACK_PRESSURE = Seam("sandbox.wire:Connection._pause")
LINK_FRAME = Seam("inside.mux:MAX_FRAME")
LINK_SEND = Seam("inside.mux:Channel.send")
READ_LIMIT = Seam("sandbox.files:READ_LIMIT")
LIST_LIMIT = Seam("sandbox.files:LIST_LIMIT")
RUN_DIRECTORIES = Seam("host.run_directory:base_directory")
RUN_DIRECTORY = Seam("host.run_directory:RunDirectory.__init__")
SIGNS_REMOVED = Seam("host.run_directory:_remove_signs")
PINNED_SOCKET = Seam("host.run_directory:_pin")

# A session, its messages and what they show

MOST_INVALID = Seam("session.channels:MOST_INVALID")
MESSAGE_IDS = Seam("session.channels:uuid")
OTHER_CLIENTS = Seam("session.session_kernel:SessionKernel._has_other_clients")
LAST_STEP = Seam("session.session_kernel:SessionKernel.start_anew")
IDLE_GRACE = Seam("session.cell:GRACE")
EVENT_BACKLOG = Seam("session.cell:BACKLOG")
PROMPT = Seam("session.prompts:Prompts.ask")
PROMPTS = Seam("session.prompts:Prompts.__init__")
SIGNATURES = Seam("session.messages:hmac")
MESSAGE_PARTS = Seam("session.messages:_object")
HEADER_SIZE = Seam("session.messages:SMALL_PART")
MOST_VALUES = Seam("session.messages:MOST_VALUES")
MESSAGE_TYPES = Seam("session.messages:TYPES")
CLEAN_TEXT = Seam("session.outputs.content:clean_text", "session.outputs.collector:clean_text")
CONTENT_DEPTH = Seam("session.outputs.content:MAX_DEPTH")
CONTENT_NUMBERS = Seam("session.outputs.content:math")
CONTENT_COUNT = Seam("session.outputs.content:_MAX_COUNT")
MEDIA_TYPES = Seam("session.outputs.content:_valid_items")
METADATA = Seam("session.outputs.content:_clean_metadata")
TRACEBACKS = Seam("session.outputs.content:MAX_TRACEBACK", "session.outputs.content:MAX_TRACEBACK_PARTS")
TIME_ZONE = Seam("session.outputs.dataframes:_zone")
PAYLOADS = Seam("session.outputs.collector:CellOutputs.feed_payload")
OUTPUT_CAPS = Seam("session.outputs.collector:SessionOutputs.__init__")
MOST_OUTPUTS = Seam("session.outputs.collector:MAX_CELL_OUTPUTS")
PART_OF_A_VALUE = Seam("inside.variables.unpacking:_Unpacker._part")
COLUMNS_OF_A_VALUE = Seam("inside.variables.unpacking:MAX_COLUMNS")
PROVENANCE = Seam("session.recorder:Recorder.describe")
NOTEBOOK_FILE = Seam("session.transcript.notebook:replace_file")
LINKS_TO_A_FILE = Seam("session.transcript.writing:written_through")

# What people and models are shown, and where it is kept

HIDING_CHARACTERS = Seam("text.characters:_ANY")
LEGIBLE_COLOURS = Seam("text.colours:legible")
TERMINAL_TEXT = Seam("terminal.safe:visible_terminal_text")
TYPED_BEFORE = Seam("terminal.confirming:_forget_typed")
TEXT_FOR_MODELS = Seam("show.model_text:plain_text")
TOO_LONG_TO_APPROVE = Seam("agents.approval:Approval.refusal")
SOURCE_TO_APPROVE = Seam("agents.approval:visible_source")
PAGE_TAGS = Seam("show.page:clean_fragment", "show.page:clean_page")
PAGE_HEAD = Seam("show.page:_HEAD")
MAGIC_FRAME = Seam("doors.magic.bundles:frame")
MAGIC_MARKDOWN = Seam("doors.magic.bundles:harmless_markdown")
ARTIFACT_NAME = Seam("artifacts:host_name")
ARTIFACT_BUDGET = Seam("artifacts:Budget.room")
FIGURES_DIRECTORY = Seam("doors.cli.run:files_directory")
SANDBOXED_KERNEL = Seam("doors.cli.keeping:is_offered")

# Where commands are started, what is typed, and the service

PROGRAM_PATH = Seam("host.programs:search_path")
PROGRAM_ENVIRONMENT = Seam("host.programs:without_relative")
STATE_DIRECTORY = Seam("host.directories:state")
LINK_FOR_A_MODEL = Seam("host.links:check_for_model")
KERNELSPEC_ISOLATION = Seam("setup.kernelspec:isolation")
CONSENT = Seam("doors.cli.access:_agreed")
MODEL = Seam("agents.recipient:make_model")
RELATIVE_SETTING = Seam("service.settings:_is_relative")
REACH = Seam("service.ownership:Reach.holds")
FIRST_KEY = Seam("service.authenticator:Authenticator._look_for_keys")
LIVE_IDENTITY = Seam("doors.http.doorkeeper:Doorkeeper._asking_again")
OWN_SITE = Seam("doors.http.doorkeeper:is_own_site")

# What images are made from, and the steps that attacks take themselves

BASE_IMAGE = Seam("setup.docker_images:_pull")
DEBOOTSTRAP_COMMAND = Seam("setup.debian_root:_command")
PIP_COMMAND = Seam("setup.wheels:_pip_command")
BUILD_SANDBOX = Seam("setup.environment_builder:sealed")
NEW_ROOT = Seam("setup.debian_root:_scratch_directory")
DEBOOTSTRAP = Seam("setup.debian_root:_debootstrap")
INSTALLATION = Seam("setup.environment_builder:_install")

# Passages of the guest

SERVING = Passage("inside.main", "asyncio.run(Guest(kernels.Kernels(*zygote_process)).serve())\n")
FIRST_PROCESS_DUMPABLE = Passage("inside.main", "prctl(PR_SET_DUMPABLE, 0")
ZYGOTE_START = Passage("inside.zygote", "    gc.disable()")
HOST_STREAM_CLOSED = Passage("inside.zygote", "            close_descriptors(keep=theirs.fileno())\n")
IMPORTS_AMONG_CELLS = Passage("inside.zygote", "if untouched else")
SWEEP = Passage("inside.kernels", "            await self.sweep(kernel)\n")
FRESH_PLACES = Passage("inside.kernels", "FRESH_PLACES = (")
FIRST_PROCESS_CHANGED = Passage("inside.kernels", "allowance.of(os.getpid()) != self.allowance")
NAMES_OF_PLACES = Passage("inside.file_operations", 'part in ("", ".", "..") or ')
FOLLOWED_LINKS = Passage("inside.file_operations", "| os.O_NOFOLLOW ")
OPENED_AT_ONCE = Passage("inside.file_operations", "| os.O_NONBLOCK ")
NO_REGULAR_FILE = Passage("inside.file_operations", "not stat.S_ISREG(status.st_mode)")
UPLOAD_NAME = Passage("inside.file_operations", 'f".upload-{os.urandom(8).hex()}"')
UPLOAD_FLAGS = Passage("inside.file_operations", "| os.O_EXCL | os.O_NOFOLLOW ")
MOST_ENTRIES = Passage("inside.file_operations", "MAX_ENTRIES = 10_000")
MOST_SOCKETS = Passage("inside.watch", "MOST_SOCKETS = 2048")

# Passages of what makes a template, and of what it forks

EMPTY_PROC = Passage("inside.keeper", '", f"{NEW}/proc")')
KEEPER_WITHOUT_HOST = Passage("inside.keeper", "        if not message:\n            os._exit(0)\n")
TEMPLATE_WITHOUT_HOST = Passage("inside.template", "        if not message:\n            os._exit(0)\n")
TEMPLATE_NAMESPACES = Passage("inside.offspring", "unshare(NAMESPACES)")
TEMPLATE_FORGOTTEN = Passage("inside.offspring", "_forget_the_template()\n        gc.enable()")

# Passages of prepare.py

DEATH_SIGNAL = Passage("inside.confinement", "libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)")
BOUNDING_SET = Passage("inside.confinement", "    drop_bounding_set()\n")
CAPABILITIES = Passage("inside.confinement", "    drop_capabilities()\n")
NO_OVERLAY = Passage("inside.confinement", "not overlay(image, ROOT, empty_first=True)")
DEVICE_NODE = Passage("inside.confinement", "os.mknod(")
NO_PROCESSORS = Passage("inside.confinement", "not os.path.isdir(PROCESSORS)")
PLACE_FLAGS = Passage("inside.confinement", "place, MS_NOSUID | MS_NODEV | MS_NOEXEC, options")
