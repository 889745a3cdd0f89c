# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import libvirt
import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import (
    binding as _binding,
    blocks as _blocks,
    connection as _connection,
    definitions as _definitions,
    domains as _domains,
    guest_agent as _guest_agent,
)
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError


@pytest.fixture
def connection() -> Iterator[libvirt.virConnect]:
    with _connection.connect("test:///default") as connected:
        yield connected


@pytest.mark.parametrize("uri", ["qemu+unix:///system?socket=/nonexistent", "nonsense:///system", "qemu://[::1/system"])
def test_what_does_not_answer_is_unavailable(uri: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KvmfleetError) as caught, _connection.connect(uri):
        pass
    assert caught.value.code == "libvirt_unavailable"
    assert uri in caught.value.message
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("asked", "means"), [("qemu:///session", None), ("qemu+unix:///session?socket=/x", None), ("desk", "qemu:///session"), ("", "qemu:///session")]
)
def test_the_libvirt_of_a_single_user_is_refused(asked: str, means: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is started, where the URI tells; else as soon as libvirt tells what it means."""
    opened = []

    class Connection:
        def getURI(self) -> str | None:
            return means

        def close(self) -> None:
            opened.append("closed")

    monkeypatch.setattr(libvirt, "open", lambda uri: opened.append(uri) or Connection())
    with pytest.raises(KvmfleetError, match="leave uri at qemu:///system and run the play with become") as caught, _connection.connect(asked):
        pass
    assert caught.value.code == "unsupported_uri"
    assert repr(asked) in caught.value.message
    assert opened == ([asked, "closed"] if means else [])


def test_a_missing_binding_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_connection, "HAS_LIBVIRT", False)
    with pytest.raises(KvmfleetError, match="install python3-libvirt") as caught, _connection.connect("test:///default"):
        pass
    assert caught.value.code == "libvirt_unavailable"


def test_the_connection_ends_with_the_block() -> None:
    with _connection.connect("test:///default") as connected:
        assert connected.isAlive()
    with pytest.raises(libvirt.libvirtError):
        connected.getHostname()


def test_states_have_the_names_of_libvirt(connection: libvirt.virConnect) -> None:
    domain = _domains.find_domain(connection, "test")
    assert _domains.state_name(domain) == "running"
    domain.suspend()
    assert _domains.state_name(domain) == "paused"
    domain.destroy()
    assert _domains.state_name(domain) == "shutoff"
    assert _domains.state_word(99) == "unknown-99"


def test_only_the_host_itself_gets_to_see_secrets(connection: libvirt.virConnect) -> None:
    vnc = "<graphics type='vnc' passwd='hush' port='5901' autoport='no'/>"
    domain = connection.defineXML(f"<domain type='test'><name>g</name><memory>1024</memory><os><type>hvm</type></os><devices>{vnc}</devices></domain>")
    assert "hush" in _definitions.inactive_xml(domain)
    assert "hush" not in _definitions.inactive_xml(domain, secure=False) + _definitions.live_xml(domain)


def test_no_agent_is_no_answer_and_no_error(connection: libvirt.virConnect, qemu: libvirt.virConnect, definitions: dict[str, str]) -> None:
    assert _guest_agent.agent_command(_domains.find_domain(connection, "test"), {"execute": "guest-ping"}) is None
    stopped = qemu.defineXML(definitions["terraform"])
    assert _guest_agent.agent_command(stopped, {"execute": "guest-ping"}) is None


def test_what_a_driver_does_not_support_has_a_default_and_other_errors_show(connection: libvirt.virConnect) -> None:
    assert _binding.supported(connection.listNWFilters, ["none"]) == ["none"]

    def missing() -> Any:
        return connection.lookupByName("no such domain")

    with pytest.raises(libvirt.libvirtError):
        _binding.supported(missing, None)


def test_capabilities_of_qemu_are_told(qemu: libvirt.virConnect) -> None:
    assert "<host>" in _connection.host_capabilities(qemu)
    assert "<machine>pc-q35" in _connection.domain_capabilities(qemu, "x86_64", "qemu", None, "q35")


class TestThaw:
    """A guest whose filesystems were frozen for a layer is thawed, or the run says that it is not; the guest and its layers are real."""

    class Frozen:
        """A real guest whose agent freezes it, and that libvirt cannot thaw."""

        def __init__(self, domain, thaws):
            self.domain, self.thaws, self.frozen = domain, thaws, False

        def __getattr__(self, name):
            return getattr(self.domain, name)

        def snapshotCreateXML(self, xml, flags):  # noqa: N802
            made = self.domain.snapshotCreateXML(xml, flags & ~libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE)
            if flags & libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE:
                self.frozen = True
                raise libvirt.libvirtError("guest agent is not responding: thaw")
            return made

        def ask(self, command, timeout=5):
            name = command["execute"]
            if name == "guest-fsfreeze-thaw":
                self.thaws -= 1
                self.frozen = self.thaws > 0
            return {"return": ("frozen" if self.frozen else "thawed") if name == "guest-fsfreeze-status" else 1}

    @pytest.fixture
    def layered(self, guest, qemu_img, images, monkeypatch):
        def layer(thaws):
            qemu_img("create -q -f qcow2 web1.qcow2 1M")
            frozen = self.Frozen(guest("web1", {"vda": f"{images}/web1.qcow2"}, running=True), thaws)
            monkeypatch.setattr(_guest_agent, "agent_command", lambda domain, command, timeout=5: frozen.ask(command))
            return frozen, lambda: _blocks.layer_disks(frozen, {"vda": f"{images}/web1.layer"}, [], quiesce=True)

        return layer

    def test_where_only_the_thaw_fails_the_guest_is_thawed_and_the_layer_is_there_once(self, layered, images):
        frozen, layer = layered(thaws=2)
        assert layer() is True
        assert frozen.frozen is False
        assert _definitions.live_xml(frozen).count(f"{images}/web1.layer") == 1

    def test_where_the_agent_does_not_thaw_it_the_run_says_so(self, layered):
        frozen, layer = layered(thaws=100)
        for act in (layer, lambda: _guest_agent.require_thawed(frozen)):
            with pytest.raises(KvmfleetError, match="virsh domfsthaw web1") as caught:
                act()
            assert caught.value.code == "guest_frozen"

    def test_the_undo_of_a_run_that_died_meanwhile_thaws_it(self, layered):
        frozen, _layer = layered(thaws=1)
        frozen.frozen = True
        _guest_agent.require_thawed(frozen)
        assert frozen.frozen is False
