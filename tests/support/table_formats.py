"""A table written in every format that descend reads."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zipfile
from pathlib import Path
from typing import Any

import polars as pl

COMPRESS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
ENCODED = {"plain": "utf-8", "mark": "utf-8-sig", "utf16": "utf-16", "utf32": "utf-32"}


def zipped(content: bytes, name: str) -> bytes:
    """Return a zip archive with one file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def records_of(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the rows as dictionaries; from the second row on without missing values."""
    first, *rest = frame.to_dicts()
    return [first, *({key: value for key, value in row.items() if value is not None} for row in rest)]


def contents(frame: pl.DataFrame) -> dict[str, bytes]:
    """Return the content of a file for each name, all of the same table; the suffix tells the format."""
    csv = frame.write_csv()
    lines = "\n".join(json.dumps(row) for row in records_of(frame)) + "\n"
    found = {f"{name}.csv": csv.encode(encoding) for name, encoding in ENCODED.items()}
    found["tabs.tsv"] = frame.write_csv(separator="\t").encode()
    found["semicolons.csv"] = ("sep=;\n" + frame.write_csv(separator=";")).encode()
    found["windows.csv"] = frame.write_csv(line_terminator="\r\n").encode()
    found["lines.jsonl"] = found["lines.ndjson"] = found["lines.json"] = lines.encode()
    found["records.json"] = json.dumps(frame.to_dicts(), ensure_ascii=False).encode()
    found["columns.json"] = json.dumps(frame.to_dict(as_series=False), indent=2).encode()
    for suffix, compress in COMPRESS.items():
        found[f"table.csv{suffix}"] = compress(csv.encode())
        found[f"table.jsonl{suffix}"] = compress(lines.encode())
    found["table.csv.zip"] = zipped(csv.encode(), "folder/table.csv")
    found["archive.zip"] = zipped(lines.encode(), "table.jsonl")
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    found["table.parquet"] = buffer.getvalue()
    found["table.parquet.gz"] = gzip.compress(buffer.getvalue())
    buffer = io.BytesIO()
    frame.write_ipc(buffer)
    found["table.feather"] = found["table.arrow"] = buffer.getvalue()
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer)
    found["stream.arrow"] = found["stream.arrows"] = buffer.getvalue()
    return found


def write_all(frame: pl.DataFrame, folder: Path) -> list[Path]:
    """Write the table in all formats, and return the paths."""
    folder.mkdir(exist_ok=True)
    paths = []
    for name, content in contents(frame).items():
        (folder / name).write_bytes(content)
        paths.append(folder / name)
    return paths
