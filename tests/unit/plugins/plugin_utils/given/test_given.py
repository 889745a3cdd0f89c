# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every variable in every form: the form means what the proper one means, or is refused with field, value and what would be right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.given import kinds, read
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.given.table import INPUTS, WORDS
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError

UUID = "ff73d022-5e02-5ca0-b689-04fd7031faf5"
FLAVORS = {"small": {"vcpus": 1, "ram": 2048, "disk": 20}}
# For each kind a proper value that is no default, and further forms of the same.
PROPER: dict[Any, tuple[Any, list[Any]]] = {
    kinds.text: ("192.0.2.7", [" 192.0.2.7 "]),
    kinds.name: ("north", [" north", "north\n"]),
    kinds.domain_name: ("web1", ["web1 ", "\tweb1"]),
    kinds.names: (["kvm4", "kvm5"], ["kvm4,kvm5", "kvm4, kvm5,", "kvm4\nkvm5\n", '["kvm4", "kvm5"]', "['kvm4', 'kvm5']", "- kvm4\n- kvm5", ("kvm4", "kvm5")]),
    kinds.seconds: (35, ["35", " 35 ", "35.0", 35.0]),
    kinds.ratio: (2.5, ["2.5", " 2.5"]),
    kinds.amount: (100 * 2**20, ["100M", "100MB", "100 MiB", "100m", "104857600", 104857600.0, "0.09765625G"]),
    kinds.ports: ("50000-50009", ["50000 - 50009", " 50000-50009"]),
    kinds.uuid: (UUID, [UUID.upper(), f" {UUID}"]),
    kinds.url: ("https://images.example.net/", [" https://images.example.net/ "]),
    kinds.cpu_set: ("4,5,8-11,^9", ["4, 5, 8-11, ^9", [4, 5, "8-11", "^9"], (4, 5, "8-11,^9")]),
    kinds.local_path: ("plans/web1.json", [" plans/web1.json"]),
    kinds.directory: ("/data/images", ["/data/images/", " /data/images", "/data/images\n"]),
    kinds.directories: (
        ["/data/images", "/srv/vm"],
        [
            "/data/images,/srv/vm",
            "/data/images, /srv/vm/",
            "/data/images\n/srv/vm",
            '["/data/images", "/srv/vm"]',
            "['/data/images', '/srv/vm']",
            "- /data/images\n- /srv/vm",
            ("/data/images", "/srv/vm"),
            ["/data/images", None, "", "/srv/vm", "/srv/vm"],
        ],
    ),  # fmt: skip
    kinds.directories_by_name: ({"fast": "/mnt/fast"}, ['{"fast": "/mnt/fast"}', "fast: /mnt/fast", "{fast: /mnt/fast/}", "{'fast': '/mnt/fast'}"]),
    kinds.mappings: ({"bridges": {"front": "br7"}}, ['{"bridges": {"front": "br7"}}', "bridges:\n  front: br7\n", {"bridges": '{"front": "br7"}'}]),
    kinds.aggregates: ([{"name": "ssd", "metadata": {"x": "1"}}], ['[{"name": "ssd", "metadata": {"x": "1"}}]', "- name: ssd\n  metadata: {x: '1'}"]),
    kinds.flavors: (
        FLAVORS,
        [json.dumps(FLAVORS), yaml.safe_dump(FLAVORS), {"small": json.dumps(FLAVORS["small"])}, {"small": {**FLAVORS["small"], "swap": ""}}],
    ),
    kinds.options: ({"preset": "nova"}, ['{"preset": "nova"}', "preset: nova", {"preset": "nova", "max_attempts": None, "shuffle_seed": ""}]),
    kinds.handed_over: ({"flavor": ""}, ['{"flavor": ""}']),
    kinds.drained_for: ("a disk fails", [" a disk fails "]),
}
FLAG = [(True, [True, "true", "True", "TRUE", "yes", "on", "1", 1, 1.0, " true "]), (False, [False, "false", "False", "no", "off", "0", 0, 0.0, "false\n"])]
BLANK = [None, "", " ", "\n\t "]
# What nobody means for anything but a text, a list of names or a mapping that has it.
STRANGE: list[Any] = [
    "letters", "/", "//", "/data//images", "/data/../etc", "/data/./x", "data/images", "~/images", "/data/$HOME", "../x", "None", "null", "{{ 7 * 7 }}",
    "[/a, /b", "[1, 2]", "{a: b", "a=b", "true", "-1", "1e3", "nan", "inf", "10Mb", "10X", "49152-", "1-2", "65000-66000", "x" * 300, "a\0b",
    True, False, -1, 0, 7, 1.5, float("nan"), float("inf"), 10**30, [], {}, [[]], [{}], {"a": None}, {"a": "b"}, {"a": {"b": "c"}}, [None], ["a", 1], ["/"],
    ["d", "a", "t", "/", "i"], b"bytes", {"bridges": {"x": None}}, {1: 2}, object(),
]  # fmt: skip


def readers() -> Iterator[tuple[str, Any, Any]]:
    """Name, how it is read, and its default, of everything there is."""
    for name, known in INPUTS.items():
        yield name, known.read, kinds.plain(known.default)
    for word, known_word in WORDS.items():
        yield word, known_word.read, kinds.plain(known_word.default)


def ask(name: str, value: Any) -> Any:
    return read.asked(name, value, None) if name in WORDS else read.given(name, value)


def tried(name: str, value: Any) -> tuple[str | None, Any]:
    """The refusal, or what was read."""
    try:
        return None, ask(name, value)
    except ValidationError as error:
        return str(error), None


def proper(reader: Any) -> list[tuple[Any, list[Any]]]:
    if reader is kinds.flag:
        return FLAG
    if reader in PROPER:
        return [PROPER[reader]]
    return []  # made for a choice or a bound: asked about below


@pytest.mark.parametrize(("name", "reader", "default"), list(readers()), ids=lambda value: value if isinstance(value, str) else "")
def test_blank_is_the_default(name: str, reader: Any, default: Any) -> None:
    assert [ask(name, blank) for blank in BLANK] == [default] * len(BLANK)


@pytest.mark.parametrize(("name", "reader", "default"), list(readers()), ids=lambda value: value if isinstance(value, str) else "")
def test_each_form_means_what_the_proper_one_means(name: str, reader: Any, default: Any) -> None:
    for value, forms in proper(reader):
        assert ask(name, value) == value
        for form in forms:
            assert ask(name, form) == value, form
            assert type(ask(name, form)) in (type(value), int, float), form


@pytest.mark.parametrize(("name", "reader", "default"), list(readers()), ids=lambda value: value if isinstance(value, str) else "")
def test_what_cannot_be_meant_is_refused_by_name_and_the_rest_stays_what_it_is(name: str, reader: Any, default: Any) -> None:
    """Never a traceback, never the letters of a text, never another value the second time."""
    for strange in STRANGE:
        refused, value = tried(name, strange)
        if refused is not None:
            assert refused.startswith(name), strange
            assert ": expected " in refused, strange
            assert ", got " in refused, strange
            continue
        assert value == ask(name, value), strange
        assert json.loads(json.dumps(value)) == value, strange
        if isinstance(strange, str) and isinstance(value, list):
            assert all(item in strange for item in map(str, value)), strange
            assert not value or len(value) < max(2, len(strange)), strange
        if isinstance(strange, bool):
            assert value in (strange, str(strange).lower(), "no reason was given", ""), strange


DIRECTORIES = [name for name, reader, _default in readers() if reader in (kinds.directory, kinds.directories)]


@pytest.mark.parametrize("name", DIRECTORIES)
@pytest.mark.parametrize(
    "wrong", ["/", "//", "///", "data/images", "./images", "/data//images", "/data/../etc", "/data/.", "//data", "~/images", "/data/$HOME", 7, True]
)
def test_a_directory_that_is_relative_or_the_root_is_refused(name: str, wrong: Any) -> None:
    with pytest.raises(ValidationError, match=rf"^{name}.*: expected (the absolute path of a directory other than /|a list of directories)"):
        ask(name, wrong)


@pytest.mark.parametrize(("wrong", "right"), [("/data//images", "/data/images"), ("data/images", "/data/images"), ("/data/../etc", "/etc")])
def test_it_is_said_which_directory_may_have_been_meant(wrong: str, right: str) -> None:
    with pytest.raises(ValidationError, match=f"did you mean '{right}'"):
        read.given("kvmfleet_images_path", wrong)


def test_letters_of_a_directory_are_no_directories() -> None:
    """What Jinja's union made of a text."""
    assert read.given("migrate_image_directories", "/data/images") == ["/data/images"]
    with pytest.raises(ValidationError, match=r"migrate_image_directories\[0\]: expected the absolute path"):
        read.given("migrate_image_directories", sorted(set("/data/images"), reverse=True))


def test_the_variable_of_the_inventory_holds_where_the_option_is_blank_and_is_named_where_it_is_wrong() -> None:
    assert read.given("migrate_ports", "", "50000-50009") == "50000-50009"
    assert read.given("migrate_ports", "50000", "no ports") == "50000-50000"
    with pytest.raises(ValidationError, match="^kvmfleet_migration_ports: expected TCP ports"):
        read.given("migrate_ports", None, "no ports")


@pytest.mark.parametrize(("name", "good", "wrong"), [
    ("migrate_on_shutdown_timeout", "destroy", "kill"),
    ("migrate_transport", "nbdkit", "http"),
    ("migrate_precopy", "never", False),
    ("migrate_verify", "none", None),
])  # fmt: skip
def test_a_choice_is_one_of_the_words(name: str, good: str, wrong: Any) -> None:
    assert read.given(name, f" {good} ") == good
    if wrong is not None:
        with pytest.raises(ValidationError, match=f"^{name}: expected one of "):
            read.given(name, wrong)


def test_ways_to_ask_a_guest_keep_their_order() -> None:
    assert read.given("migrate_shutdown_modes", "acpi, agent") == read.given("migrate_shutdown_modes", '["acpi", "agent"]') == ["acpi", "agent"]
    for wrong in ([], "acpi,power", ","):
        with pytest.raises(ValidationError, match="^migrate_shutdown_modes"):
            read.given("migrate_shutdown_modes", wrong)


@pytest.mark.parametrize("form", [512, "512", " 512", 512.0])
def test_whole_numbers(form: Any) -> None:
    assert read.given("kvmfleet_reserved_host_memory_mb", form) == 512
    with pytest.raises(ValidationError, match="whole number"):
        read.given("kvmfleet_reserved_host_memory_mb", 512.5)


def test_a_host_that_is_not_drained_says_so_in_any_word() -> None:
    """YAML, INI in both spellings."""
    assert [read.given("kvmfleet_maintenance", no) for no in (False, "false", "False", "no", "off", "")] == [""] * 6
    assert read.given("kvmfleet_maintenance", True) == "no reason was given"


def test_a_name_that_looks_like_a_number_is_a_name() -> None:
    assert read.given("kvmfleet_zone", 2) == "2"
    assert read.asked("instance", 4711, None) == "4711"


def test_two_names_of_a_word_must_not_disagree() -> None:
    assert read.asked("zone", "north", " north ") == read.asked("zone", "", "north") == read.asked("zone", "north", None) == "north"
    with pytest.raises(ValidationError, match=r"^zone: expected the same as kvmfleet_zone_wanted \('south'\), or only one of the two, got 'north'"):
        read.asked("zone", "north", "south")


def test_the_result_of_the_job_before_names_what_is_blank_and_nothing_else() -> None:
    assert read.asked("instance", "", None, "web1") == "web1"
    assert read.asked("instance", "db1", None, "web1") == "db1"
