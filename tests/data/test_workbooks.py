import datetime as dt
import io
import sys
import zipfile

import polars as pl
import pytest

from descend.data.settings import DataSettings
from descend.data.sources import read
from descend.data.workbooks import _as_times, frame_of_workbook
from descend.errors import DataError, MissingExtraError

_TYPES = '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>'
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def workbook(**sheets):
    """Return the content of an XLSX file with sheets of rows of strings, numbers and None."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("[Content_Types].xml", _TYPES)
        packages = "http://schemas.openxmlformats.org/package/2006/relationships"
        archive.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{packages}">'
            f'<Relationship Id="r0" Type="{_RELATIONS}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        )
        names = "".join(
            f'<sheet name="{name}" sheetId="{at}" r:id="r{at}"/>' for at, name in enumerate(sheets, start=1)
        )
        archive.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{_MAIN}" xmlns:r="{_RELATIONS}"><sheets>{names}</sheets></workbook>',
        )
        links = "".join(
            f'<Relationship Id="r{at}" Type="{_RELATIONS}/worksheet" Target="worksheets/s{at}.xml"/>'
            for at in range(1, len(sheets) + 1)
        )
        archive.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{packages}">{links}</Relationships>',
        )
        for at, rows in enumerate(sheets.values(), start=1):
            archive.writestr(
                f"xl/worksheets/s{at}.xml",
                f'<worksheet xmlns="{_MAIN}"><sheetData>{_rows(rows)}</sheetData></worksheet>',
            )
    return buffer.getvalue()


def _rows(rows):
    return "".join(
        f'<row r="{at}">'
        + "".join(_cell(f"{chr(65 + column)}{at}", value) for column, value in enumerate(row))
        + "</row>"
        for at, row in enumerate(rows, start=1)
    )


def _cell(place, value):
    if value is None:
        return ""
    if isinstance(value, dt.date):
        return f'<c r="{place}" t="d"><v>{value.isoformat()}</v></c>'
    if isinstance(value, str):
        return f'<c r="{place}" t="inlineStr"><is><t>{value}</t></is></c>'
    return f'<c r="{place}"><v>{value}</v></c>'


ROWS = [["area", "name", "y"], [1.5, "a", 0], [None, "b", 1], [2.5, None, 2]]


def test_a_missing_package_is_named_with_a_command(tmp_path, monkeypatch):
    (tmp_path / "a.xlsx").write_bytes(workbook(One=ROWS))
    monkeypatch.setitem(sys.modules, "fastexcel", None)
    with pytest.raises(
        MissingExtraError, match=r"a\.xlsx needs the package 'fastexcel'.*pip install .*\[excel\]"
    ):
        read(tmp_path / "a.xlsx", target="y")


class TestReading:
    @pytest.fixture(autouse=True)
    def _package(self):
        pytest.importorskip("fastexcel")

    def test_the_first_sheet_is_read(self, tmp_path):
        (tmp_path / "a.xlsx").write_bytes(workbook(One=ROWS, Two=[["q"], [1]]))
        source = read(tmp_path / "a.xlsx", target="y")
        assert source.frame.to_dict(as_series=False) == {"area": [1.5, None, 2.5], "name": ["a", "b", None]}
        assert source.targets.tolist() == [0, 1, 2]
        assert source.targets.dtype.kind == "i"
        assert "the sheet 'One' is read; other sheets: 'Two'" in source.notes[0]

    def test_a_sheet_is_chosen_by_its_name(self, tmp_path):
        (tmp_path / "a.xlsx").write_bytes(workbook(One=[["q"], [1]], Two=ROWS))
        source = read(tmp_path / "a.xlsx", target="y", settings=DataSettings(sheet="Two"))
        assert len(source) == 3
        with pytest.raises(DataError, match=r"data\.sheet: no sheet 'Tow'; did you mean 'Two'"):
            read(tmp_path / "a.xlsx", target="y", settings=DataSettings(sheet="Tow"))

    def test_empty_rows_and_columns_without_a_title_are_skipped(self):
        rows = [["a", None, "b"], [1, None, "x"], [], [2, None, "y"]]
        frame, notes = frame_of_workbook("a.xlsx", workbook(One=rows))
        assert frame.to_dict(as_series=False) == {"a": [1, 2], "b": ["x", "y"]}
        assert frame.dtypes == [pl.Int64, pl.String]
        assert notes == ()

    def test_numbers_among_strings_become_strings(self):
        frame, _ = frame_of_workbook("a.xlsx", workbook(One=[["a"], [1], ["x"], [2.5]]))
        assert frame["a"].to_list() == ["1", "x", "2.5"]

    def test_strings_among_dates_are_not_lost(self):
        days = [dt.date(2026, 1, 1), dt.date(2026, 1, 2)]
        frame, _ = frame_of_workbook("a.xlsx", workbook(One=[["a"], [days[0]], ["unknown"], [days[1]]]))
        assert frame["a"][1] == "unknown"
        assert [str(value)[:10] for value in frame["a"].gather([0, 2])] == [day.isoformat() for day in days]
        frame, _ = frame_of_workbook("a.xlsx", workbook(One=[["a"], [days[0]], [None], [days[1]]]))
        assert frame["a"].dtype.is_temporal()

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "is empty"),
            (b"PK\x03\x04junk", "cannot be read as a workbook"),
            (workbook(One=[["a", "b"]]), "the sheet 'One' has no rows"),
            (workbook(One=[]), "the sheet 'One' has no rows"),
            (workbook(One=[["a", "a"], [1, 2]]), "'a' occurs more than once"),
        ],
    )
    def test_other_content_is_refused(self, content, message):
        with pytest.raises(DataError, match=message) as caught:
            frame_of_workbook("a.xlsx", content)
        assert "a.xlsx" in str(caught.value)

    def test_a_workbook_of_another_writer(self, tmp_path):
        import pandas

        pytest.importorskip("openpyxl")
        days = [dt.datetime(2026, 1, day, 6) for day in (1, 2, 3)]
        frame = pandas.DataFrame(
            {"day": days, "x": [1, 2, 3], "t": [True, False, True], "y": ["a", "b", "a"]}
        )
        frame.to_excel(tmp_path / "a.xlsx", index=False)
        found = read(tmp_path / "a.xlsx", target="y")
        assert found.frame["day"].to_list() == days
        assert found.frame["t"].to_list() == [True, False, True]


@pytest.mark.parametrize("above", [[["Report of 2021"]], [["Report"], [None], ["of 2021"], [None]]])
def test_a_title_above_the_header_is_skipped(above):
    rows = [["area", "city", "price"], [50, "A", 300], [70, "B", 410]]
    frame, notes = frame_of_workbook("a.xlsx", workbook(Data=[*above, *rows]))
    assert frame.rows(named=True)[1] == {"area": 70, "city": "B", "price": 410}
    words = "rows above the header are" if len(above) > 1 else "row above the header is"
    assert notes == (f"{len(above)} {words} skipped",)
    assert frame_of_workbook("a.xlsx", workbook(Data=rows))[0].equals(frame)


def test_a_header_with_one_name_stays_the_header():
    frame, notes = frame_of_workbook("a.xlsx", workbook(Data=[["area"], [50, 1, 300], [70, 2, 410]]))
    assert frame.columns[0] == "area"
    assert frame.height == 2
    assert notes == ()
    narrow = workbook(Data=[["area"], [50, "A"], [70, "B"]])
    assert frame_of_workbook("a.xlsx", narrow)[0].columns[0] == "area"


DAY_ZERO = dt.datetime(1899, 12, 31)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([dt.timedelta(hours=9.5), None, dt.timedelta(hours=23)], [dt.time(9, 30), None, dt.time(23)]),
        ([dt.timedelta(0), dt.timedelta(hours=36.25)], [dt.timedelta(0), dt.timedelta(hours=36.25)]),
        ([dt.timedelta(days=2), dt.timedelta(days=3)], [dt.datetime(1900, 1, 2), dt.datetime(1900, 1, 3)]),
        ([dt.timedelta(0), dt.timedelta(days=44562)], [DAY_ZERO, dt.datetime(2022, 1, 2)]),
    ],
)
def test_times_and_durations_are_not_dates(cells, expected):
    series = pl.Series("a", [None if cell is None else DAY_ZERO + cell for cell in cells])
    assert _as_times(series).to_list() == expected
    assert _as_times(series.cast(pl.Datetime("ms"))).to_list() == expected
