# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.request import check_request
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError


def ignored(value: Any) -> list[str]:
    return check_request({"instance": "web1", "ignore_hosts": value}, ["kvm1", "kvm2"])["ignore_hosts"]


@pytest.mark.parametrize("value", ["kvm1,kvm2", "kvm1, kvm2", ["kvm1", "kvm2"]])
def test_hosts_to_ignore_as_text_or_list(value):
    assert ignored(value) == ["kvm1", "kvm2"]


@pytest.mark.parametrize("value", [None, "", []])
def test_no_hosts_to_ignore(value):
    assert ignored(value) == []


def test_anything_else_is_refused():
    with pytest.raises(ValidationError, match="ignore_hosts: expected a list, got 3"):
        ignored(3)


def test_an_instance_has_the_name_of_a_domain_and_a_host_has_not():
    assert check_request({"instance": "win & co"}, [])["instance"] == "win & co"
    with pytest.raises(ValidationError, match="^target_host: expected a name"):
        check_request({"instance": "web1", "target_host": "win & co"}, [])
    with pytest.raises(ValidationError, match="^instance: expected a name"):
        check_request({"instance": None}, [])
