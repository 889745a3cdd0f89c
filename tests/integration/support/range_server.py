# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A web server with range requests for a host of the lab. It writes a line `NAME RANGE` for each request, and breaks the first connections.

Arguments: directory, port, log, how many connections to break, after how many bytes.
"""

from __future__ import annotations

import re
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

directory, port, log, breaks, until = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])


class Answer(BaseHTTPRequestHandler):
    """One request."""

    broken = 0

    def do_GET(self) -> None:
        name, wanted = Path(self.path).name, self.headers["Range"]
        with open(log, "a") as stream:
            stream.write(f"{name} {wanted or 'all'}\n")
        if not (directory / name).is_file():
            self.send_error(404)
            return
        content = (directory / name).read_bytes()
        start = int(re.findall(r"\d+", wanted)[0]) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        breaking = Answer.broken < breaks and len(content) - start > until
        Answer.broken += breaking
        self.wfile.write(content[start : start + until] if breaking else content[start:])


HTTPServer(("", port), Answer).serve_forever()
