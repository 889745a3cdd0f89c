# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A word means one thing. One that meant several is not written any more, but where others have it from us: there it stays readable, and stands here.

`digest` was the `ContentId` of a base image, the checksum of bytes as they travel, the fingerprint of a definition or an answer, and the proof of a secret.
`kept` was what a broken copy has left (leftovers), the copy of firmware variables and what a definition takes over from the running guest.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TEXTS = [*(ROOT / "plugins").rglob("*.py"), *(ROOT / "roles").rglob("*.yml"), *(ROOT / "playbooks").glob("*.yml"), *(ROOT / "docs").glob("*.md")]
TEXTS += [*(ROOT / "roles").rglob("*.md"), *(ROOT / "tests").glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]

STAYS = {
    "digest": {
        "xml_digest": "a key of records, and of what domain_info tells: the fingerprint of a definition",
        "kept_digest": "a key of records",
        "digests": "an option of domain_info and of image_store; a directory of the state directory",
        "digest-": "the prefix of documents of the channel and of locks, which a host of another release may have open",
        "hexdigest": "a name of Python's",
        "compare_digest": "a name of Python's",
    },
}
"""Word -> what is still written with it -> why."""

KEPT = {
    "kept": "a directory of the state directory, and a result of image_store: leftovers",
    "kept_at": "a key of leftovers, in that directory and that result",
    ".{instance_uuid}.kept": "the name of a file that is a leftover",
    "kept_nvram": "a key of records: the copy of the firmware variables",
    "kept_copy_broken": "an error about that",
    "kept_digest": "a key of records: of the definition with all that the running guest had",
}
"""The same for a word that is a common verb too: keys, names of files and codes."""


def written(word: str, text: str) -> Iterator[str]:
    """Whatever has the word in it, with the dash of a prefix."""
    return (found.lower() for found in re.findall(rf"\w*{word}\w*-?", text, re.IGNORECASE))


@pytest.mark.parametrize("word", STAYS)
def test_a_word_of_many_meanings_is_only_where_it_has_to_stay(word: str) -> None:
    found = {(path.relative_to(ROOT).as_posix(), name) for path in TEXTS for name in written(word, path.read_text())}
    assert sorted((path, name) for path, name in found if name not in STAYS[word]) == []
    assert {name for _path, name in found} == set(STAYS[word])  # what nobody writes any more leaves the list


ZONE = {
    "plugins/filter": "Nova's request and options",
    "plugins/modules": "an option of host_facts and a fact, as Nova's hosts have it",
    "plugins/module_utils/_rules": "that fact, and the key of records",
    "plugins/module_utils/_journal": "a key of records",
    "plugins/module_utils/_operation": "the key of records",
    "plugins/module_utils/_domain": "an element of our metadata in definitions",
    "plugins/plugin_utils/planning": "that fact, Nova's request, and the key of records",
    "plugins/plugin_utils/fleet": "that fact, and Nova's request",
    "roles/gather": "that fact",
}
"""Room in which a zone is `availability_zone`, besides the scheduler, whose words are Nova's -> why."""


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    return "/".join(parts[: 3 if parts[1] in ("module_utils", "plugin_utils") else 2])


def test_a_zone_is_called_zone_but_where_nova_or_what_is_stored_has_another_word() -> None:
    scheduler = ROOT / "plugins/plugin_utils/scheduler"
    code = [path for path in TEXTS if path.suffix in (".py", ".yml") and scheduler not in path.parents]
    assert {room_of(path) for path in code if "availability_zone" in path.read_text()} == set(ZONE)


def texts(tree: ast.AST) -> Iterator[str]:
    """Texts of code that are one word."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"[\w.{}-]*kept[\w.{}-]*", node.value):
            yield node.value


def test_what_is_left_of_a_copy_is_called_leftovers_but_where_it_has_to_stay() -> None:
    assert {text for path in (ROOT / "plugins").rglob("*.py") for text in texts(ast.parse(path.read_text()))} == set(KEPT)
    assert list(texts(ast.parse("{'kept_for': 1}"))) == ["kept_for"]


def test_a_new_use_would_be_found() -> None:
    assert list(written("digest", "the digest of a file, its Digests, `digest-NAME`, xml_digest, digested")) == [
        "digest", "digests", "digest-", "xml_digest", "digested",
    ]  # fmt: skip
