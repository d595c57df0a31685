"""What a notebook shows of an agent's steps: HTML of our own for front ends that take it, and text beside it. Pure.

Every text in it is the model's or the sandbox's, so every text is escaped; pictures and tables are those of `bundles`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from kernel_sandbox.doors.magic.commands import one_line
from kernel_sandbox.doors.magic.front_end import Bundle
from kernel_sandbox.doors.magic.html_tables import table_html
from kernel_sandbox.session.outputs import (
    ClearOutput,
    DisplayData,
    DisplayUpdate,
    ErrorOutput,
    Event,
    ExecuteResult,
    Execution,
    Output,
    Picture,
    StreamOutput,
    image_element,
    picture_of,
    text_to_show,
)
from kernel_sandbox.text.amounts import format_seconds
from kernel_sandbox.text.ansi import plain_text
from kernel_sandbox.text.characters import pictured, visible_source
from kernel_sandbox.text.clipping import keep_end

SHOWN = 20_000
"""Characters of one text that are shown; the transcript has all."""
FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_MUTED = "color:var(--jp-ui-font-color2,#666);font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:13px"
_PRE = (
    "margin:6px 0 0 0;padding:0;background:none;border:none;white-space:pre-wrap;overflow-wrap:anywhere;"
    "font-family:var(--jp-code-font-family,monospace);font-size:var(--jp-code-font-size,13px);line-height:1.35"
)
_SOURCE = (
    f"{_PRE};padding:6px 10px;background:var(--jp-cell-editor-background,#f5f5f5);"
    "border:1px solid var(--jp-border-color2,#ddd);border-radius:3px"
)
_BLOCK = "margin:2px 0;padding:2px 0 2px 10px;border-left:3px solid"
_COLOURS = {"running": "#1e88e5", "ok": "#43a047", "failed": "#e53935"}


def status_bundle(mark: str, text: str) -> Bundle:
    """Make the line above the steps: a spinner or a mark, and what is going on."""
    return {
        "text/html": f'<div style="{_MUTED}">{escape(mark)} {escape(text)}</div>',
        "text/plain": f"{mark} {text}",
    }, {}


@dataclass(slots=True)
class CellBlock:
    """One cell of an agent's, while it runs and afterwards."""

    number: int
    source: str
    outputs: list[Output] = field(default_factory=list)
    execution: Execution | None = None
    refused: str = ""
    """Why it did not run."""
    _clear_next: bool = False

    def take(self, event: Event) -> None:
        """Take an event of the running cell; its end brings the outputs as they stand."""
        if isinstance(event, ClearOutput):
            self._clear_next = event.wait
            if not event.wait:
                self.outputs.clear()
            return
        if isinstance(event, DisplayUpdate):
            for place, output in enumerate(self.outputs):
                if getattr(output, "display_id", None) == event.display_id:
                    self.outputs[place] = DisplayData(event.data, event.metadata, event.display_id)
            return
        if self._clear_next:
            self.outputs.clear()
            self._clear_next = False
        last = self.outputs[-1] if self.outputs else None
        if isinstance(event, StreamOutput) and isinstance(last, StreamOutput) and last.name == event.name:
            self.outputs[-1] = StreamOutput(event.name, (last.text + event.text)[-2 * SHOWN :])
        else:
            self.outputs.append(event)

    def finish(self, execution: Execution) -> None:
        """Take the end of the cell."""
        self.execution = execution
        self.outputs = list(execution.outputs)

    @property
    def shown_source(self) -> str:
        """The source with all visible in it that hides something."""
        return visible_source(self.source, pictured)

    @property
    def state(self) -> str:
        if self.refused:
            return "failed"
        return "running" if self.execution is None else "ok" if self.execution.status == "ok" else "failed"

    def title(self) -> str:
        """Return in one line which cell it is and how it went."""
        lines = [line for line in self.shown_source.split("\n") if line.strip()]
        telling = (line for line in lines if not line.startswith(("import ", "from ", "%")))
        first = next(telling, "".join(lines[:1])).lstrip("#% ")
        end = ""
        if self.execution is not None:
            word = "" if self.execution.status == "ok" else f"  {self.execution.status}"
            end = f"  {format_seconds(self.execution.duration)}{word}"
        elif self.refused:
            end = "  not run"
        return f"cell {self.number}  {one_line(first, 70)}{end}"

    def bundle(self) -> Bundle:
        """Make what is shown: folded when it is over, with its pictures below."""
        mark = {"running": "▶", "ok": "✓", "failed": "✗"}[self.state]
        colour = _COLOURS[self.state]
        inside = f'<pre style="{_SOURCE}">{escape(keep_end(self.shown_source, SHOWN))}</pre>{self._outputs_html()}'
        if self.refused:
            inside += f'<pre style="{_PRE};color:{colour}">{escape(keep_end(self.refused, 1000))}</pre>'
        html = (
            f'<div style="{_BLOCK} {colour}"><details{" open" if self.state == "running" else ""}>'
            f'<summary style="cursor:pointer;{_MUTED}"><span style="color:{colour}">{mark}</span> '
            f"{escape(self.title())}</summary>{inside}</details>{self._pictures_html()}</div>"
        )
        return {"text/html": html, "text/plain": f"{mark} {self.text()}"}, {}

    def text(self) -> str:
        """Write it for a front end without HTML."""
        source = "\n".join(f"    {line}" for line in keep_end(self.shown_source, SHOWN).split("\n"))
        shown = "\n".join(filter(None, (_text_of(output) for output in self.outputs)))
        return "\n".join(
            filter(None, (self.title(), source, keep_end(shown, SHOWN).rstrip(), keep_end(self.refused, 1000)))
        )

    def _outputs_html(self) -> str:
        return "".join(_output_html(output) for output in self.outputs if _picture(output) is None)

    def _pictures_html(self) -> str:
        pictures = (picture for output in self.outputs if (picture := _picture(output)) is not None)
        return "".join(map(_picture_html, pictures))


def _picture(output: Output) -> Picture | None:
    return picture_of(output.data) if isinstance(output, DisplayData | ExecuteResult) else None


def _picture_html(picture: Picture) -> str:
    return f'<div style="margin-top:6px">{image_element(picture.kind, picture.data, "figure")}</div>'


def _output_html(output: Output) -> str:
    table = table_html(output.data, output.metadata) if isinstance(output, DisplayData | ExecuteResult) else None
    if table is not None:
        return f'<div style="margin-top:6px;overflow-x:auto">{table}</div>'
    colour = f";color:{_COLOURS['failed']}" if isinstance(output, ErrorOutput) else ""
    text = _text_of(output)
    return f'<pre style="{_PRE}{colour}">{escape(text)}</pre>' if text else ""


def _text_of(output: Output) -> str:
    if isinstance(output, StreamOutput):
        text = output.text
    elif isinstance(output, ErrorOutput):
        text = "\n".join(output.traceback) or f"{output.ename}: {output.evalue}"
    else:
        text = text_to_show(output.data)
    return keep_end(plain_text(text), SHOWN).rstrip()


def sources_of(blocks: Sequence[CellBlock]) -> str:
    """Write the cells that ended well as one `%%sandbox` cell: a front end takes one new cell from a running one."""
    good = [block.source.strip() for block in blocks if block.execution is not None and block.execution.status == "ok"]
    return "\n\n".join(f"# %% {number}\n{source}" if len(good) > 1 else source for number, source in enumerate(good, 1))
