"""Words and notations of dates: names of months, days and time zones, and notations other than those of ISO 8601.

Names of months and weekdays are English, German, French, Spanish, Italian, Portuguese, Dutch, Swedish, Danish and
Norwegian. Abbreviations of time zones have the offsets that they have in North America, Europe, Japan, Australia and
New Zealand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

__all__ = ["MONTHS", "ZONES", "rewritten"]

_MONTHS = (
    "january jan januar janvier janv enero ene gennaio gen janeiro januari",
    "february feb februar février févr fév fevrier fevr febrero febbraio fevereiro fev februari febr",
    "march mar märz mär maerz mrz mars marzo março marco maart mrt marts",
    "april apr avril avr abril abr aprile",
    "may mai mayo maggio mag maio mei maj",
    "june jun juni juin junio giugno giu junho",
    "july jul juli juillet juil julio luglio lug julho",
    "august aug août aout agosto ago augustus augusti",
    "september sep sept septembre septiembre setiembre settembre set setembro",
    "october oct oktober okt octobre octubre ottobre ott outubro out",
    "november nov novembre noviembre novembro",
    "december dec dezember dez décembre déc decembre diciembre dic dicembre dezembro desember des",
)
MONTHS = {name: number for number, names in enumerate(_MONTHS, 1) for name in names.split()}
"""The number of the month of each name, in lower case."""

ZONES = {
    "est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6, "pst": -8, "pdt": -7, "akst": -9, "akdt": -8,
    "hst": -10, "wet": 0, "west": 1, "bst": 1, "cet": 1, "cest": 2, "mez": 1, "mesz": 2, "eet": 2, "eest": 3,
    "msk": 3, "jst": 9, "aest": 10, "aedt": 11, "nzst": 12, "nzdt": 13,
}  # fmt: skip
"""Hours from UTC of the abbreviations of time zones, in lower case."""

_DAYS = (
    "mo|di|mi|do|fr|sa|so|montag|dienstag|mittwoch|donnerstag|freitag|samstag|sonnabend|sonntag|"
    "lun|mer|jeu|ven|sam|dim|lundi|mardi|mercredi|jeudi|vendredi|samedi|dimanche|"
    "mié|mie|jue|vie|sáb|sab|dom|lunes|martes|miércoles|jueves|viernes|sábado|domingo|"
    "gio|lunedì|martedì|mercoledì|giovedì|venerdì|sabato|domenica|seg|ter|qua|qui|sex|"
    "ma|wo|vr|za|zo|maandag|dinsdag|woensdag|donderdag|vrijdag|zaterdag|zondag|"
    "mån|tis|ons|tors|fre|lör|sön|man|tir|tor|lør|søn"
)
_NAME = "|".join(sorted(MONTHS, key=len, reverse=True))
_REWRITTEN = (
    (r"^'", ""),
    (rf"^(?:{_DAYS})\.?,?\s+(?:den\s+)?([0-9])", "${1}"),
    (r"([0-9]{4})\s?[年년]\s?([0-9]{1,2})\s?[月월]\s?([0-9]{1,2})\s?[日일]\s?", "${1}-${2}-${3} "),
    (r"([0-9]{1,2})\s?[時时시]\s?([0-9]{2})\s?[分분]", "${1}:${2}"),
    (r"\s?uhr$", ""),
    (r"([0-9]{1,2})er\s", "${1} "),
    (r"([0-9])\s+de\s+([^\s0-9]+)\s+(?:de\s+|del\s+)?([0-9])", "${1} ${2} ${3}"),
    (r"^([0-9]{4})(?:\.\s|:|\s)([0-9]{1,2})(?:\.\s|:|\s)([0-9]{1,2})\.?($|\s)", "${1}-${2}-${3}${4}"),
    (r"^([0-9]{4})\.([0-9]{1,2})\.([0-9]{1,2})\.($|\s)", "${1}-${2}-${3}${4}"),
    (r"^([0-9]{1,2})\.\s?([0-9]{1,2})\.\s?([0-9]{4})\.($|\s)", "${1}.${2}.${3}${4}"),
    (r"^([0-9]{1,2})\s([0-9]{1,2})\s([0-9]{4})($|\s)", "${1}.${2}.${3}${4}"),
    (r"^([0-9]{4}-[0-9]{2}-[0-9]{2})[\s_-]([0-9]{2})$", "${1}t${2}"),
    (r"^([0-9]{4}-[0-9]{2}-[0-9]{2})[\s_-]+([0-9]{2})[-.]([0-9]{2})$", "${1}t${2}:${3}"),
    (r"^([0-9]{4}-[0-9]{2}-[0-9]{2})[\s_-]+([0-9]{2})[-.]([0-9]{2})[-.]([0-9]{2})$", "${1}t${2}:${3}:${4}"),
    (r"^([0-9]{4})([0-9]{2})([0-9]{2})[\s_-]([0-9]{2}):?([0-9]{2})$", "${1}-${2}-${3}t${4}:${5}"),
    (r"^([0-9]{4})([0-9]{2})([0-9]{2})[\s_-]([0-9]{2}):?([0-9]{2}):?([0-9]{2})$", "${1}-${2}-${3}t${4}:${5}:${6}"),
    (rf"^({_NAME})\.?['’-]\s?([0-9]{{2}})$", "1 ${1} ${2}"),
    (r"^([0-9])[/-]((?:1[789]|2[01])[0-9]{2})$", "${2}/0${1}"),
    (r"^([0-9]{2})[/-]((?:1[789]|2[01])[0-9]{2})$", "${2}/${1}"),
    (r"^q([1-4])[\s/'’-]*([0-9]{4}|[0-9]{2})$", "${2}q${1}"),
    (r"^([1-4])q[\s/'’-]*([0-9]{4}|[0-9]{2})$", "${2}q${1}"),
    (r"^h([12])[\s/'’-]*([0-9]{4}|[0-9]{2})$", "${2}h${1}"),
    (r"^([0-9]{4}|[0-9]{2})[\s/-]*q1$", "1 jan ${1}"),
    (r"^([0-9]{4}|[0-9]{2})[\s/-]*q2$", "1 apr ${1}"),
    (r"^([0-9]{4}|[0-9]{2})[\s/-]*q3$", "1 jul ${1}"),
    (r"^([0-9]{4}|[0-9]{2})[\s/-]*q4$", "1 oct ${1}"),
    (r"^([0-9]{4})[\s/-]*h1$", "1 jan ${1}"),
    (r"^([0-9]{4})[\s/-]*h2$", "1 jul ${1}"),
    (r"^(?:kw|cw|week|wk|w)\.?\s?([0-9]{1,2})[\s/-]+([0-9]{4})$", "${2}w${1}"),
    (r"^([0-9]{4})[\s/-]*(?:kw|cw|week|wk|w)\.?\s?([0-9])$", "${1}w0${2}-1"),
    (r"^([0-9]{4})[\s/-]*(?:kw|cw|week|wk|w)\.?\s?([0-9]{2})$", "${1}w${2}-1"),
    (r"^([0-9]{4})-?w([0-9]{2})-?([1-7])$", "${1}w${2}-${3}"),
)  # fmt: skip
"""Patterns of other notations in lower case, and what they become, in this order."""
_WEEK = r"^[0-9]{4}w[0-9]{2}-[1-7]$"


def rewritten(strings: pl.Series) -> pl.Series:
    """Rewrite other notations of dates in usual ones; strings that are not dates may change too.

    A quarter or half of a year is its first day, and a week of ISO 8601 is its Monday.

    Args:
        strings: strings in lower case.

    >>> import polars as pl
    >>> rewritten(pl.Series(["2021-w05", "q3 2021", "2. märz 2021, 14:05 uhr", "2021年1月31日"])).to_list()
    ['2021-02-01', '1 jul 2021', '2. märz 2021, 14:05', '2021-1-31 ']
    """
    for pattern, replacement in _REWRITTEN:
        strings = strings.str.replace(pattern, replacement)
    weeks = strings.str.contains(_WEEK).fill_null(False)
    if weeks.any():
        days = strings.str.to_date("%Gw%V-%u", strict=False).dt.strftime("%Y-%m-%d")
        strings = days.zip_with(weeks, strings)
    return strings
