"""Result files: ``results/<benchmark>/<date>-<cpu>.json`` with all measurements, and a page ``.md`` of the same name."""

from __future__ import annotations

import argparse
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from instruments.session import Session
from instruments.text import bullets, markdown_table, paragraph, plain_table

__all__ = ["RESULTS", "add_out_option", "report_table", "short_cpu_name", "write_results"]

RESULTS = Path(__file__).parents[1] / "results"


def add_out_option(parser: argparse.ArgumentParser, *, default: Path | None = RESULTS) -> None:
    """Add ``--out``, the folder that contains one folder of results per benchmark."""
    parser.add_argument(
        "--out", type=Path, default=default, help="folder for the results; default benchmarks/results"
    )


def write_results(
    folder: Path, benchmark: str, session: Session, content: Mapping[str, Any], page: str
) -> None:
    """Write ``folder/benchmark/<date>-<cpu>.json``, with the session as its first key, and the page next to it.

    Existing results are never overwritten: further results of the same day and processor end in ``-2``, ``-3``, ….
    """
    name = f"{session.date}-{short_cpu_name(str(session.machine['cpu']))}"
    (folder / benchmark).mkdir(parents=True, exist_ok=True)
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    candidates = ((folder / benchmark / f"{name}.json", folder / benchmark / f"{name}.md") for name in names)
    json_file, page_file = next(files for files in candidates if not any(file.exists() for file in files))
    record = {"session": asdict(session), **content}
    json_file.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    page_file.write_text(page + "\n", encoding="utf-8")
    print(f"wrote {json_file} and {page_file}")


def short_cpu_name(cpu: str) -> str:
    """Return vendor and family of a processor for use in a file name.

    >>> [short_cpu_name(cpu) for cpu in ("Intel(R) Xeon(R) Processor", "AMD EPYC 7763 64-Core Processor", "unknown")]
    ['intel-xeon', 'amd-epyc', 'unknown']
    """
    plain_name = re.sub(r"\((r|tm|c)\)", " ", cpu.lower())
    words = re.findall(r"[a-z0-9]+", plain_name)
    vendor = next((place for place, word in enumerate(words) if word in ("intel", "amd", "apple", "arm")), 0)
    return "-".join(words[vendor : vendor + 2]) or "unknown"


def report_table(
    folder: Path,
    benchmark: str,
    session: Session,
    content: Mapping[str, Any],
    *,
    title: str,
    explanation: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    remarks: Sequence[str] = (),
) -> None:
    """Print one table with remarks, and write it as a page together with the measurements."""
    remarks = [*remarks, session.line()]
    print(plain_table(header, rows), "", *remarks, sep="\n")
    page = [f"# {title}", paragraph(explanation), markdown_table(header, rows), bullets(remarks)]
    write_results(folder, benchmark, session, content, "\n\n".join(page))
