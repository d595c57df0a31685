"""R's data frames travel as data, exactly, beside their text and HTML."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kernel_sandbox import Session, TruncatedTable
from tests.languages import require_image

FRAME = """
data.frame(
  whole = c(1L, NA), real = c(1 / 3, -Inf), text = c("a\\\\ \\"q\\"\\n", NA), day = as.Date(c("2020-01-02", NA)),
  moment = as.POSIXct(c("2020-01-02 03:04:05.25", NA), tz = "UTC"), truth = c(TRUE, NA), kind = factor(c("u", "v"))
)
"""


@pytest.fixture(scope="module", params=["docker", "bubblewrap"])
def r(request: pytest.FixtureRequest) -> Iterator[Session]:
    require_image(request.param, "r")
    with Session(engine=request.param, image="r") as session:
        yield session


def test_values_arrive_as_they_are(r: Session) -> None:
    frame = r.execute(FRAME).dataframes[0]
    assert frame["whole"].tolist()[0] == 1
    assert frame["real"].tolist() == [1 / 3, float("-inf")]
    assert frame["text"][0] == 'a\\ "q"\n'
    assert [str(frame[name][0]) for name in ("day", "moment")] == [
        "2020-01-02 00:00:00",
        "2020-01-02 03:04:05.250000+00:00",
    ]
    assert frame["truth"][0]
    assert frame["kind"].cat.categories.tolist() == ["u", "v"]
    assert frame.isna().sum().to_dict() == {**dict.fromkeys(frame.columns, 1), "real": 0, "kind": 0}


def test_names_of_rows_are_the_index(r: Session) -> None:
    frame = r.execute("head(mtcars, 2)").dataframes[0]
    assert frame.index.tolist() == ["Mazda RX4", "Mazda RX4 Wag"]
    assert frame["mpg"].tolist() == [21.0, 21.0]


def test_long_table_says_that_it_is_cut(r: Session) -> None:
    shown = r.execute("tibble::tibble(x = 1:1000)")
    with pytest.raises(TruncatedTable, match="1,000 rows"):
        _ = shown.dataframes


def test_column_that_json_cannot_say_leaves_the_text(r: Session) -> None:
    shown = r.execute("data.frame(x = I(list(1, 2)))")
    assert shown.dataframes == ()
    assert shown.status == "ok"
    assert shown.text


def test_plot_is_a_picture_and_a_question_without_an_answer_an_error(r: Session) -> None:
    figure = r.execute("plot(1:3)")
    assert any("image/png" in getattr(output, "data", {}) for output in figure.outputs)
    asked = r.execute("readline('name? ')", timeout=20)
    assert asked.status == "error"
    assert asked.error is not None
    assert asked.error.ename == "StdinNotImplementedError"
    assert r.execute("1").status == "ok"
