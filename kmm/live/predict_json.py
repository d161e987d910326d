"""A prediction as JSON."""

from __future__ import annotations

from importlib import resources
from typing import Final

from kmm.live.predict_value import Outcome, Prediction, RangeFate, Share

SCHEMA: Final = 1


def schema() -> str:
    """The JSON Schema of a prediction."""
    return resources.files("kmm.live").joinpath("predict.schema.json").read_text(encoding="utf-8")


def to_json(prediction: Prediction) -> dict[str, object]:
    """The prediction as in :func:`schema`; sizes are in bytes."""
    return {
        "schema": SCHEMA,
        "exit_code": prediction.exit_code,
        "interrupted": prediction.interrupted,
        "variant": {"name": prediction.variant, "sha256": prediction.sha256},
        "range_bytes": prediction.geometry.ptes * prediction.geometry.page_size,
        "ranges": len(prediction.ranges),
        "predicted": prediction.predicted,
        "settings": [_setting(prediction, i) for i in range(len(prediction.settings))],
        "fates": [_range(prediction, each) for each in prediction.ranges if each.outcomes],
        "assumed": list(prediction.assumed),
        "left_out": None if prediction.left_out is None else [{"reason": reason, "ranges": n} for reason, n in prediction.left_out],
    }


def _setting(prediction: Prediction, index: int) -> dict[str, object]:
    summary, page = prediction.summary(index), prediction.geometry.page_size
    return {
        "knobs": [{"file": file, "value": value} for file, value in prediction.settings[index].knobs],
        "tunables": prediction.tunables[index],
        "ranges": [_share(share, page) for share in summary.shares],
        "folios": [{"order": order, "count": n, "bytes": (page << order) * n} for order, n in summary.folios],
        "growth": {
            "bytes": summary.growth * page,
            "holes": (summary.growth - summary.swapped_in) * page,
            "swapped_in": summary.swapped_in * page,
        },
        "violations": [{"check": check, "ranges": n} for check, n in summary.violations],
    }


def _share(share: Share, page: int) -> dict[str, object]:
    return {
        "fate": share.fate.value,
        "code": share.code,
        "reason": share.reason,
        "count": share.ranges,
        "resident": share.resident * page,
    }


def _range(prediction: Prediction, each: RangeFate) -> dict[str, object]:
    return {"name": each.name, "under": [_outcome(o, prediction.geometry.page_size) for o in each.outcomes]}


def _outcome(o: Outcome, page: int) -> dict[str, object]:
    return {
        "fate": o.fate.value,
        "code": o.code,
        "reason": o.reason,
        "folios": [{"order": order, "count": n} for order, n in o.folios],
        "resident": o.resident * page,
        "growth": o.growth * page,
        "swapped_in": o.swapped_in * page,
        "violations": list(o.violations),
    }
