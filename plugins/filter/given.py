# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter plugin: what a person gave, in whatever form it came."""

from __future__ import annotations

DOCUMENTATION = r"""
name: given
short_description: Read what a person gave for a variable of this collection, in whatever form it came
version_added: 0.1.0
author: kvmfleet contributors (@kvmfleet)
description:
  - Takes the value of a variable of the inventory or of a role for the one meaning that it can have, whether it comes from YAML, from an inventory in
    INI (text, tuples, words of Python), from C(-e key=value) (text) or from a survey (text, blanks).
  - Blank (null, an empty text, spaces) means that nothing was given, so that the default holds. An empty list, V(0) and V(false) are values.
  - A list may be written as a text, of one item, of several with commas or in lines, or as YAML or JSON. A mapping may be written as YAML or JSON.
  - Directories of hosts must be absolute, without C(.), C(..) and C(//), and must not be the root.
  - Whatever else it is, is refused, with the name of the variable, the value, and what would be right.
positional: name, fleet
options:
  _input:
    description: The value.
    type: raw
    required: true
  name:
    description: The name of the variable.
    type: str
    required: true
  fleet:
    description: The value of the variable of the inventory that holds where O(_input) is blank.
    type: raw
"""

EXAMPLES = r"""
- name: Show where the images of a host are
  ansible.builtin.debug:
    msg: "{{ kvmfleet_image_directories | default(none) | kvmfleet.compute.given('kvmfleet_image_directories') }}"
"""

RETURN = r"""
_value:
  description: The value, or the default; an empty text where there is none.
  type: raw
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.given import read
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError


def _given(value: Any, name: str, fleet: Any = None) -> Any:
    try:
        return read.given(str(name), value, fleet)
    except ValidationError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"given": _given}
