"""Sizes at which every figure of the gallery takes a fraction of a second."""

SIZES = {
    "polynomial": {"points": 200, "steps": 200, "lr": 1e-5},
    "activations": {"samples": 20_000, "repeats": 1, "elements": 1000},
    "gd_vs_sgd": {"seeds": 2, "rows": 1000, "columns": 50, "batch": 20, "epochs": 4},
    "schedules": {"seeds": 3, "epochs": 32, "rows": 60},
    "momentum": {"starts": 3, "steps": 300},
    "adaptive": {"ratios": (1.0, 4.0, 16.0), "max_steps": 150},
    "race": {"steps": 100, "starts": 4},
    "learning_rate": {"seeds": 2, "epochs": 4, "train": 100},
    "depth": {"seeds": 2, "rows": 100},
    "initialization": {"seeds": 2, "layers": 8, "width": 64, "rows": 64},
    "restarts": {"landscapes": 6, "starts": 64, "steps": 150},
    "early_stopping": {"seeds": 2, "epochs": 50, "train": 100, "width": 64},
    "scaling": {"seeds": 3},
    "whitening": {"rows": 100},
    "batch_norm": {"seeds": 2, "sweep_seeds": 1, "steps": 24, "every": 8, "layers": 2, "width": 16},
    "normalization_zoo": {},
    "dropout": {"seeds": 2, "epochs": 4, "train": 100, "width": 16},
    "random_vs_grid": {"seeds": 2, "epochs": 1, "train": 100, "searches": 50},
    "augmentation": {"seeds": 2, "epochs": 2, "train": 50, "width": 16},
    "second_order": {"seeds": 2, "rows": 200, "passes": 4, "max_passes": 60},
}
