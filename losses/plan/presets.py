"""Published settings per dataset: dataset -> loss -> options, as the authors' training scripts pass them.

Af-DCD: OSVAI/Af-DCD 5b086a7, `train_scripts/`; the DeepLabV3-R18 and -MBV2 scripts agree on these numbers.
CIRKD: winycg/CIRKD 2d8ad0f, 0.1 for both memories and 0.01 on VOC.
CIFAR and ImageNet: the authors' configurations of NKD (yzd-v/cls_KD 1e5d48f), DAFL (huawei-noah 5e8f4e4),
DIST (hunto 6f7a70a) and DKD (mdistiller a08d46f); `imagenet` is no source's name: write `dkd@imagenet`.
Elsewhere (folder, demo, a source of one's own) the defaults of the class hold, which are those of the
authors' argument parser. `fit=exact` refuses maps on which the published form is undefined; `kd=0.5` is the
weight of the companion.
"""

from kdcache.losses.options import OptionValue

_MEMORY: dict[str, OptionValue] = {"lambda_pixel": 0.1, "lambda_region": 0.1}
PRESETS: dict[str, dict[str, dict[str, OptionValue]]] = {
    "camvid": {
        "afdcd": {"lambda_fd": 8e-6, "lambda_ctr": 1e-2, "pool": 0, "fit": "cut"},
        "cirkd": _MEMORY,
    },
    "cityscapes": {
        "afdcd": {"lambda_fd": 2e-6, "lambda_ctr": 5e-3, "pool": 4, "fit": "exact"},
        "cirkd": _MEMORY,
    },
    "voc": {
        "afdcd": {"lambda_fd": 1e-6, "lambda_ctr": 5e-3, "pool": 4, "fit": "exact"},
        "cirkd": {"lambda_pixel": 0.01, "lambda_region": 0.01},
    },
    "ade20k": {
        "afdcd": {"lambda_fd": 1e-6, "lambda_ctr": 4e-2, "pool": 4, "fit": "exact", "kd": 0.5},
        "cirkd": _MEMORY,
    },
    "cocostuff": {
        "afdcd": {"lambda_fd": 5e-6, "lambda_ctr": 5e-3, "pool": 4, "fit": "exact", "kd": 0.5},
        "cirkd": _MEMORY,
    },
    "cifar10": {
        "nkd": {"T": 3.0, "gamma": 3.5},
        "dafl": {"latent": 1000, "lr": 0.02, "oh": 0.05, "ie": 5.0, "a": 0.01},
    },
    "cifar100": {
        "nkd": {"T": 3.0, "gamma": 3.5},
        "dafl": {"latent": 1000, "lr": 0.02, "oh": 0.5, "ie": 20.0, "a": 0.1},
    },
    "imagenet": {
        "dkd": {"T": 1.0, "beta": 0.5, "warmup": 1.0},
        "nkd": {"T": 1.0, "gamma": 1.5},
        "dist": {"tau": 1.0},
    },
}


def preset_names() -> tuple[str, ...]:
    return tuple(PRESETS)


def preset_options(loss: str, preset: str | None) -> dict[str, OptionValue]:
    """What the preset sets for this loss; empty where nothing was published."""
    return dict(PRESETS.get(preset or "", {}).get(loss, {}))


def has_presets(loss: str) -> bool:
    """True when some dataset has settings for this loss, so that their absence elsewhere is worth a note."""
    return any(loss in losses for losses in PRESETS.values())
