# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which runs are whole ones, by Ansible's own rules of tags."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from ansible.playbook.taggable import Taggable

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.whole_run import Asked, is_meant, require_whole

FLEET = ("kvm1", "kvm2")
EVERYBODY = ("localhost", *FLEET)


def refused(**asked: Any) -> KvmfleetError:
    with pytest.raises(KvmfleetError) as caught:
        require_whole(Asked(**{"fleet": FLEET, **asked}))
    return caught.value


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"limit": "all:localhost", "left": EVERYBODY},
        {"skip_tags": ("nothing",)},
        {"tags": ("resize",), "own_tags": ("resize", "night")},
        {"expected": 2},
        {"expected": 1},
        {"fleet": None, "limit": "localhost", "left": ("localhost",)},
    ],
)
def test_a_run_that_leaves_nothing_out_is_a_whole_one(asked: dict[str, Any]) -> None:
    require_whole(Asked(**{"fleet": FLEET, **asked}))
    assert is_meant(Asked(**{"fleet": FLEET, **asked}))


@pytest.mark.parametrize(
    ("left", "left_out"),
    [(("kvm1",), ["localhost", "kvm2"]), (("localhost",), ["kvm1", "kvm2"]), (FLEET, ["localhost"]), (("web",), ["localhost", "kvm1", "kvm2"])],
)
def test_a_limit_that_leaves_a_host_out_is_refused(left: tuple[str, ...], left_out: list[str]) -> None:
    error = refused(limit="x", left=left)
    assert (error.code, error.details["left_out"]) == ("narrowed_run", left_out)
    assert "target_host" in error.message


@pytest.mark.parametrize("asked", [{"tags": ("x",)}, {"tags": ("tagged",)}, {"skip_tags": ("untagged",)}, {"skip_tags": ("all",)}])
def test_tags_that_leave_the_tasks_out_are_refused(asked: dict[str, Any]) -> None:
    error = refused(**asked)
    assert error.code == "narrowed_run"
    assert "without tags" in error.message


def test_an_import_that_was_given_other_tags_is_not_meant() -> None:
    assert not is_meant(Asked(fleet=FLEET, tags=("status",), own_tags=("resize",)))
    assert is_meant(Asked(fleet=FLEET, tags=("status",)))


def test_a_slice_of_the_fleet_is_refused_where_it_is_known_how_many_there_are() -> None:
    error = refused(expected=3)
    assert (error.code, error.details) == ("narrowed_run", {"hosts": ["kvm1", "kvm2"], "expected": 3})
    assert refused(fleet=()).code == "no_compute_hosts"


TAGS = ((), ("a",), ("a", "b"), ("never",), ("always",), ("never", "a"))
GIVEN = (("all",), ("a",), ("c",), ("tagged",), ("untagged",), ("all", "c"))
SKIPPED = ((), ("a",), ("c",), ("all",), ("tagged",), ("untagged",), ("always",), ("all", "always"))


class Task(Taggable):
    """Something with tags."""

    _loader = None
    _parent = None

    def __init__(self, tags: tuple[str, ...]) -> None:
        self.tags = self._tags = list(tags)

    def get_play(self) -> None:
        """It is in none."""


def test_tags_mean_what_ansible_takes_them_for() -> None:
    for own, given, skipped in itertools.product(TAGS, GIVEN, SKIPPED):
        runs = Task(own).evaluate_tags(set(given), set(skipped), {})
        try:
            require_whole(Asked(fleet=FLEET, tags=given, skip_tags=skipped, own_tags=own))
        except KvmfleetError:
            assert not runs, (own, given, skipped)
        else:
            assert runs, (own, given, skipped)
