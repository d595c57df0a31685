"""What cells put out: values, the result of one cell, and the collectors that make both from kernel messages.

The only room that knows what the content of an output message means; no I/O. Messages are hostile input: what is
malformed is dropped or coerced, and nothing here raises because of it. The session calls it; `transcript` writes what
it holds.

    output_values  the Output union and the events of a running cell
    content     hostile message content in, clean bounded values out
    chart_words  what a chart that comes as data draws, in words
    pictures    the kinds of pictures, what a bundle's is and how large
    tables      the one reader of the tables that cells display
    dataframes  DataFrames of those, never from pickles
    fate        what became of a cell, in words
    display     what of a cell a notebook on the host may show
    execution   Execution, the result of one cell
    collector   SessionOutputs, CellOutputs: coalescing, clearing, updating, caps
"""

from __future__ import annotations

from kernel_sandbox.session.outputs.collector import CellOutputs, SessionOutputs
from kernel_sandbox.session.outputs.content import bundle_text, clean_json, is_unspoken, text_to_show
from kernel_sandbox.session.outputs.display import image_element
from kernel_sandbox.session.outputs.execution import CellError, CellTimeout, Execution, Status
from kernel_sandbox.session.outputs.fate import Ran, advice_on, fate, fresh_kernel, what_ran
from kernel_sandbox.session.outputs.output_values import (
    ClearOutput,
    DisplayData,
    DisplayUpdate,
    ErrorOutput,
    Event,
    ExecuteResult,
    Output,
    StreamOutput,
)
from kernel_sandbox.session.outputs.pictures import (
    PICTURE_SUFFIXES,
    RASTERS,
    Picture,
    data_url,
    has_picture,
    picture_of,
)

__all__ = [
    "PICTURE_SUFFIXES",
    "RASTERS",
    "CellError",
    "CellOutputs",
    "CellTimeout",
    "ClearOutput",
    "DisplayData",
    "DisplayUpdate",
    "ErrorOutput",
    "Event",
    "ExecuteResult",
    "Execution",
    "Output",
    "Picture",
    "Ran",
    "SessionOutputs",
    "Status",
    "StreamOutput",
    "advice_on",
    "bundle_text",
    "clean_json",
    "data_url",
    "fate",
    "fresh_kernel",
    "has_picture",
    "image_element",
    "is_unspoken",
    "picture_of",
    "text_to_show",
    "what_ran",
]
