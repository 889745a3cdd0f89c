# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A TPM for the guest."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import strings


class TpmFilter(Filter):
    """The host can emulate a TPM of the guest's model and version; what it does not report is left to the claim."""

    def applies(self) -> bool:
        return self.context.request.requirements.tpm is not None

    def rejection(self, host: HostState) -> Rejection | None:
        needed, facts = self.context.request.requirements.tpm, host.mapping("tpm")
        if facts is None:
            return None
        offered = {key: strings(f"{host.path}.tpm.{key}", facts.get(key)) for key in ("backends", "models", "versions")}
        if "emulator" not in offered["backends"]:
            return self.reject("tpm", "cannot emulate a TPM (swtpm is not installed)", needed.model)
        for what, value, known in (("model", needed.model, offered["models"]), ("version", needed.version, offered["versions"])):
            if value and known and value not in known:
                return self.reject("tpm", f"has no TPM of {what} {value}, only {', '.join(known)}", value, ", ".join(known))
        return None
