# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The surveys of the example's site, made of the playbooks and argument specifications as they are now, so that a new word is no change of a golden file."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]


def _load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def surveys() -> dict[str, Any]:
    """The survey of each job template and workflow that has one, by its name."""
    sys.path[:0] = [path for path in os.environ["ANSIBLE_COLLECTIONS_PATH"].split(":") if path not in sys.path]
    from ansible_collections.kvmfleet.compute.plugins.plugin_utils.awx import objects

    site, fleet = _load(ROOT / "examples/awx/site.yml"), _load(ROOT / "examples/awx/project/inventory.yml")["compute"]["vars"]
    named = objects.Site(
        "kvmfleet",
        site["awx_organization"],
        "kvmfleet",
        "kvmfleet",
        site["awx_credential"],
        flavors=list(fleet["kvmfleet_flavors"]),
        zones=site["awx_zones"],
    )
    playbooks = {str(path.relative_to(ROOT / "playbooks"))[:-4]: _load(path) for path in ROOT.glob("playbooks/**/*.yml")}
    specs = {path.parts[-3]: _load(path)["argument_specs"] for path in ROOT.glob("roles/*/meta/argument_specs.yml")}
    made = objects.everything(named, _load(ROOT / "roles/awx/files/objects.yml"), playbooks, specs)
    return {one["name"]: one["survey_spec"] for kind in ("job_templates", "workflows") for one in made[kind] if one["survey_spec"]}
