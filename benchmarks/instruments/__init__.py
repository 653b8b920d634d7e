"""Measurement tools of the benchmarks: problems, timers, threads, machine, statistics, tables and result files."""

__all__: list[str] = []
