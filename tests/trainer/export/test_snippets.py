"""The snippets of docs/export.md run on folders that `export_run` wrote."""

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from left_runs import NAME, left_run

from kdcache.trainer.export.export import export_run
from kdcache.trainer.judge.segmentation import predict

TEXT = (Path(__file__).parents[3] / "docs" / "export.md").read_text()
BLOCKS = {
    block.partition("\n")[0].removeprefix("# "): block
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
}
TASKS = {"timm": "classification", "smp": "segmentation", "onnx": "segmentation", "pt2": "segmentation"}


@pytest.mark.parametrize(
    "form", ["timm", "smp", *(pytest.param(form, marks=pytest.mark.slow) for form in ("onnx", "pt2"))]
)
def test_a_snippet_says_what_the_student_says(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = left_run(tmp_path / "home", TASKS[form])
    export_run(NAME, form, home=one.home, out=tmp_path / "DIR")
    image = sorted(one.images.rglob("*.jpg"))[0]
    (tmp_path / "a.jpg").write_bytes(image.read_bytes())
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # open() of a snippet
        exec(BLOCKS[form], scope)
    if form == "timm":
        assert scope["answer"] in ("cat", "dog") and scope["probabilities"].shape == (1, 2)
        return
    from PIL import Image

    pixels = torch.from_numpy(np.array(Image.open(image).convert("RGB")))[None]
    mask = np.asarray(scope["mask"])
    pixels = pixels[:, : mask.shape[1], : mask.shape[2]].contiguous()
    with torch.no_grad():
        wanted = predict(one.network(pixels, ("logits",))["logits"], mask.shape[1:])
    assert (mask == wanted.numpy()).mean() > 0.999
    assert mask.shape[1:] == ((72, 96) if form == "smp" else (75, 100))
