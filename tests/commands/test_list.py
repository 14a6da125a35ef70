"""`oodml list backbones`: what it says of each network, and how little it needs for that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from oodml.features.backbones.catalogue import NETWORKS
from oodml.features.backbones.registry import backbone_names

CODE = """
import sys
from click.testing import CliRunner
from oodml.cli import main

asked = []
sys.addaudithook(lambda event, given: asked.append(event) if event.startswith("socket.") else None)
result = CliRunner().invoke(main, ["list", "backbones", "--format", "json"])
assert result.exit_code == 0, result.exception
assert not asked, "the listing asked the network"
assert not {"torch", "timm", "numpy"} & set(sys.modules), "the listing is slow"
print(result.stdout)
"""


def test_backbones_are_listed_with_their_facts_without_torch_or_the_network(
    tmp_path: Path,
) -> None:
    (tmp_path / "resnet50-0676ba61.pth").write_bytes(b"anything")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    caches = {"TORCH_HOME": str(tmp_path / "torch"), "HF_HOME": str(tmp_path / "hf")}
    ran = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**kept, **caches, "OODML_WEIGHTS_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    rows = {row["backbone"]: row for row in json.loads(ran.stdout)}
    assert list(rows) == [name for name, _ in backbone_names()]
    for name, network in NETWORKS.items():
        assert rows[name]["dimensions"] == network.dimension
        assert rows[name]["input"] == network.image_size
        assert rows[name]["licence"] == network.licence
        assert rows[name]["download MB"] == network.megabytes
        assert rows[name]["what it is"] == network.summary
    here = {name for name, row in rows.items() if row["weights here"] == "yes"}
    assert here - {"efficientnet_lite0"} == {"resnet50", "tiny"}
