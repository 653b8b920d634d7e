import numpy as np
import polars as pl
import pytest

from descend.data.missing_targets import absent_targets, without_missing_targets
from descend.data.preparation import prepare
from descend.data.settings import DataSettings
from descend.data.sources import read
from descend.errors import DataError

DROP = DataSettings(drop_missing_targets=True)
FRAME = pl.DataFrame({"x": np.arange(20) * 0.5, "y": [None if at % 5 == 2 else at % 2 for at in range(20)]})
KEPT = [at for at in range(20) if at % 5 != 2]


@pytest.mark.parametrize(
    ("targets", "absent"),
    [
        (np.array([1.0, np.nan]), [False, True]),
        (np.array(["a", None, "b"], dtype=object), [False, True, False]),
        (np.array([[1.0, 2.0], [np.nan, 2.0]]), [False, True]),
        (np.array(["a", "b"]), [False, False]),
        (np.array([1, 2]), [False, False]),
    ],
)
def test_rows_without_a_target(targets, absent):
    assert absent_targets(targets).tolist() == absent


@pytest.mark.parametrize("form", ["frame", "records", "pair", "csv"])
def test_rows_are_refused_with_the_setting_or_left_out(tmp_path, form):
    FRAME.write_csv(tmp_path / "a.csv")
    data = {"frame": FRAME, "records": FRAME.to_dicts(), "pair": (FRAME.drop("y"), FRAME["y"])}
    given, target = data.get(form, tmp_path / "a.csv"), None if form == "pair" else "y"
    with pytest.raises(DataError, match=r"rows 2, 7, 12, 17.*no value.*'data\.drop_missing_targets': True"):
        prepare(read(given, target=target))
    source = read(given, target=target, settings=DROP)
    assert source.frame["x"].to_list() == [at * 0.5 for at in KEPT]
    assert source.targets.tolist() == [at % 2 for at in KEPT]
    assert source.notes[-1] == "4 rows without a target are not used"
    assert prepare(source).schema.classes == (0, 1)


def test_integers_and_weights_stay_with_their_rows():
    source = read(FRAME, target="y", settings=DROP, weights=np.arange(20.0))
    assert source.targets.dtype == np.int64
    assert source.weights.tolist() == KEPT


def test_messages_name_the_rows_of_the_file(tmp_path):
    lines = FRAME.write_csv().splitlines()
    lines[10] = lines[10].replace("4.5", "oops")
    (tmp_path / "a.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"row 9 \(line 11\) holds 'oops'"):
        prepare(read(tmp_path / "a.csv", target="y", settings=DROP))


def test_data_with_all_targets_do_not_change():
    source = read(FRAME[:2], target="y")
    assert without_missing_targets(source) is source


def test_data_without_any_target_are_refused():
    with pytest.raises(DataError, match="no row has a target"):
        read({"x": [1, 2], "y": [None, None]}, target="y", settings=DROP)
