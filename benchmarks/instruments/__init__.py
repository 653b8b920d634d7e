"""What the benchmarks measure with: problems, turns, threads, the machine, figures and tables."""
