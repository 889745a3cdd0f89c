# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a kind of thing that belongs to a guest, beside its disks, has to know how to do, so that an operation can carry it without knowing what it is.

Each kind is one file of this folder and one line in `registry`. It says only what it has to say: whatever it leaves out, it does not need.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from ..._domain.reference import Reference
from ..._journal.records import Journal
from ..._rules.values import Table
from ..._storage.disk_use import DiskUses


class Guest(NamedTuple):
    """A guest as its host knows it.

    :param root: its definition; :param live: what libvirt has made of that for a guest that runs, of one that is off the definition.
    """

    domain: Any
    root: ET.Element
    live: ET.Element


class OwnFile(NamedTuple):
    """A file of a guest.

    :param below: directories in which a host lets such files be.
    :param name: what it is called in the channel; None for one that is not sent by itself.
    :param own: nobody but the guest may use it, and going back removes or replaces it.
    """

    path: str
    below: Sequence[str]
    name: str | None = None
    own: bool = False


class Claim(NamedTuple):
    """What a host knows as it judges whether it can take a guest, or keep it under another flavor.

    :param proofs: what `prove` returned at the source; :param key: the one-time key of the operation.
    """

    conn: Any
    journal: Journal
    proofs: Mapping[str, str]
    key: str | None


class Reason(NamedTuple):
    """Why a host cannot take it, with numbers (`need`, `have`) where there are some."""

    code: str
    sentence: str
    numbers: Mapping[str, Any] = {}


class Here(NamedTuple):
    """What a destination has to judge with what another host says.

    :param bases: sha256 of a base image -> its path on this host.
    :param require: refuses what it is called, for the definitions in it and the reasons given (`_guest.handed_definition.require_part`).
    """

    bases: Mapping[str, str]
    require: Callable[[str, Iterable[ET.Element], Sequence[str]], None]


class Belonging(Protocol):
    """One kind. What it notes in a record bears names of its own there; what travels and what is archived bears `name`."""

    name: str
    """Of its part of the manifest, and of what is kept with the archived definition (`private` in a record)."""
    form: Table | None = None
    """What its part of the manifest may be; None where it has none. Nothing of it takes effect before it was judged by that."""
    with_definition: bool = False
    """libvirt has it with the definition: forgets it with that, and has to be told again. It is judged at the destination while the guest still runs."""
    read_early: bool = False
    """Its part of the manifest is read before the guest stops, since reading it may fail."""

    # The guest, as it is.

    def facts(self, guest: Guest) -> dict[str, Any]:
        """What a plan has to know, without secrets: keys of the guest's facts."""
        return {}

    def refusals(self, guest: Guest, facts: Mapping[str, Any], directories: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Code and sentence of each reason why the guest cannot be moved with it.

        :param facts: of the guest; :param directories: those of the host's images.
        """
        yield from ()

    def files(self, told: Mapping[str, Any], directories: Sequence[str]) -> Iterator[OwnFile]:
        """The files that it is in.

        :param told: facts of a guest or a record, with the paths of the host that has it.
        """
        yield from ()

    def answered(self, reference: Reference, facts: Mapping[str, Any]) -> Reference:
        """A reference of the definition to something outside, with the answer that what is known of it (`facts`) gives; as it is where nothing else is."""
        return reference

    def unlayered(self, facts: Mapping[str, Any]) -> Iterator[str]:
        """Why no layer may come over the disks of the guest while it runs."""
        yield from ()

    def not_in_place(self, facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Code and sentence of each reason why the guest cannot be resized where it is."""
        yield from ()

    def require_layerable(self, domain: Any) -> None:
        """Asked right before a layer comes over the disks: nothing has come since the plan that a layer would harm.

        :raises KvmfleetError: where something has.
        """
        return

    def key_of(self, conn: Any, root: ET.Element, target: str) -> bytes | None:
        """What opens an encrypted disk of a definition; None where that is not its matter.

        :raises KvmfleetError: where it is not here any more.
        """
        return None

    # Before the switch: what both hosts find out of each other.

    def prove(self, conn: Any, record: Mapping[str, Any], key: str) -> dict[str, str]:
        """At the source, by which the destination tells whether it has the same, under a one-time key; of the record of a plan."""
        return {}

    def reasons(self, claim: Claim, record: Mapping[str, Any]) -> Iterator[Reason]:
        """Why this host cannot take the guest with it, or in place (`role`) keep what going back needs."""
        yield from ()

    def lacking(self, conn: Any, record: Mapping[str, Any]) -> list[str]:
        """UUIDs of what this host has to be given."""
        return []

    # The source's copy.

    def archive(self, domain: Any, record: Mapping[str, Any]) -> Any:
        """What has to be kept with the archived definition, in `private` of the record; None for nothing.

        :raises KvmfleetError: the code of a refusal; somebody may have made it one since the plan.
        """
        return None

    def seal(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """What the record gets to know before anything of it is sealed."""
        return {}

    def sealed_names(self, record: Mapping[str, Any]) -> dict[str, str]:
        """The name of each of its files that has another one while the copy is sealed -> that one."""
        return {}

    def offer(self, conn: Any, record: Mapping[str, Any]) -> Any:
        """Its part of the manifest, for a guest that is off and sealed unless it is to be read early; None where it has no form."""
        return None

    def put_there(self, record: Mapping[str, Any]) -> None:
        """Let be there, as archived or as judged, what has to be there before the guest is defined. What is there already is left as it is."""
        return

    def redefine(self, domain: Any, archived: Any) -> None:
        """Let libvirt know of it again, as archived or as judged, once the guest is defined. Repeating it is safe."""
        return

    def discard(self, conn: Any, journal: Journal, uses: DiskUses, record: Mapping[str, Any]) -> None:
        """Remove what is left of it here for good. Repeating it is safe."""
        return

    # The destination's copy.

    def must_be_free(self, record: Mapping[str, Any]) -> Iterator[str]:
        """Paths at which nothing may be before it comes."""
        yield from ()

    def arrived(self, record: Mapping[str, Any], given: Any, here: Here) -> Any:
        """What is to be kept, in `private` of the record, of what another host has given, as it is to be here; None for nothing.

        :raises KvmfleetError: `definition_refused`, `manifest_invalid` for what is not that of the plan.
        """
        return None

    def strange(self, root: ET.Element, record: Mapping[str, Any]) -> Iterator[str]:
        """What a definition that another host has handed over says of it, and the plan does not."""
        yield from ()

    def tried(self, trial: Any, kept: Any) -> None:
        """While the guest still runs: find out, on a trial of its definition, whether libvirt here takes what has arrived. The trial is thrown away."""
        return

    def received(self, record: Mapping[str, Any], kept: Any) -> None:
        """The copies of files, complete but without their names, hold what is needed of them.

        :raises KvmfleetError: for one that does not.
        """
        return

    def adapt(self, root: ET.Element, record: Mapping[str, Any]) -> None:
        """Let a definition name it as this host does."""
        return

    def receive(self, conn: Any, journal: Journal, record: dict[str, Any], given: Any) -> dict[str, Any]:
        """Let it be here, of what the source has given, before the guest is defined. Repeating it is safe.

        :returns: the record, which knows what was made.
        """
        return record

    def withdraw(self, conn: Any, journal: Journal, uses: DiskUses, record: dict[str, Any]) -> None:
        """Remove what has been made of it here. Repeating it is safe."""
        return

    # A resize in place, where the guest stays.

    def keep(self, journal: Journal, record: dict[str, Any]) -> dict[str, Any]:
        """Keep what going back needs, while the guest is off, where that is not archived. Repeating it is safe.

        :returns: the record.
        """
        return record

    def require_kept(self, record: Mapping[str, Any]) -> None:
        """Asked before anything is noted or stopped.

        :raises KvmfleetError: where what going back needs is not what was kept.
        """
        return

    def go_back(self, journal: Journal, record: dict[str, Any]) -> dict[str, Any]:
        """Let it be what it was at the switch, whatever the guest has made of it since. Repeating it is safe.

        :returns: the record.
        """
        return record

    def forget(self, record: Mapping[str, Any]) -> None:
        """Remove what `keep` has kept, and what an interrupted one has left."""
        return
