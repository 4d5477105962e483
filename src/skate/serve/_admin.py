"""The REST API of Ray Serve's administration, on a loopback port of its own.

One actor answers it, with threads of the standard library's HTTP server: requests are few, and neither
traffic nor the controller depends on it. ``skate serve start --admin-port`` starts it. Every request needs
the token, which lies in the session's folder, where only its user can read it: a request may name code to be
imported.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from skate import api
from skate.exceptions import RayError
from skate.serve import _deploy, _instance
from skate.serve import api as serve_api
from skate.serve._config import ConfigError, ServeDeploySchema
from skate.serve._instance import controller
from skate.serve._left_out import LeftOutError
from skate.serve._options import checked
from skate.serve._targets import ADMIN, NAMESPACE, DeploymentId
from skate.serve.exceptions import RayServeException
from skate.serve.schema import APIType

if TYPE_CHECKING:
    from email.message import Message

_HOST = "127.0.0.1"
_TOKEN_FILE = "serve-admin.token"  # noqa: S105 - its name
#: The longest body that is read (bytes), and how long a client may take to send a request (seconds).
_LONGEST_BODY, _PATIENCE_S = 1 << 20, 30
#: So much of a refused body is read (bytes).
_MOST_DISCARDED = 16 << 20
_APPLICATIONS = re.compile(r"/api/serve/applications/?")
_SCALE = re.compile(r"/api/v1/applications/([^/]+)/deployments/([^/]+)/scale/?")


class Answer(NamedTuple):
    """Status and body for a client."""

    status: int
    body: Any


def refusal(headers: Mapping[str, str] | Message[str, str], address: str, token: str) -> Answer | None:
    """Return the answer to a request that must not be carried out; None: it may be.

    Args:
        headers: of the request.
        address: of the port: host and number.
        token: that the client must have.
    """
    hosts = (address, address.replace(_HOST, "localhost"))
    if headers.get("Host") not in hosts:  # a browser was led here by a name of somebody else's
        return Answer(403, {"error": f"the header Host must be {address}"})
    origin = headers.get("Origin")
    if origin is not None and origin not in [f"http://{one}" for one in hosts]:
        return Answer(403, {"error": f"requests from pages of {origin} are refused"})
    scheme, _, given = headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        return Answer(
            401,
            {
                "error": "send the header `Authorization: Bearer TOKEN`; the session's folder has it in "
                f"{_TOKEN_FILE}"
            },
        )
    return None


class Administration:
    """Carries out what requests ask for.

    Args:
        folders: where modules of applications are looked for first.
    """

    def __init__(self, folders: list[str]) -> None:
        self._folders = folders
        #: Two files at a time would remove each other's applications.
        self._lock = threading.Lock()

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        """Return the answer to a request."""
        parts = urlsplit(path)
        path = parts.path
        if _APPLICATIONS.fullmatch(path):
            source = parse_qs(parts.query).get("api_type", [""])[0].lower()
            found: dict[str, Callable[[bytes], Answer]] = {
                "GET": lambda _: self._get(source),
                "PUT": self._put,
                "DELETE": self._delete,
            }
        elif match := _SCALE.fullmatch(path):
            name = DeploymentId(unquote(match[2]), unquote(match[1]))
            found = {"POST": lambda body: self._scale(name, body)}
        else:
            return Answer(404, {"error": f"there is nothing at {path}; try /api/serve/applications/"})
        if method not in found:
            return Answer(405, {"error": f"{path} takes {', '.join(found)}"})
        try:
            return found[method](body)
        except (ConfigError, LeftOutError, json.JSONDecodeError) as error:
            return Answer(400, {"error": str(error)})

    def _get(self, source: str) -> Answer:
        """Return how everything stands.

        Args:
            source: of the applications that are shown, an ``APIType``; empty: all are.
        """
        valid = APIType.get_valid_user_values()
        if source and source not in valid:
            return Answer(400, {"error": f"api_type is {' or '.join(valid)}, got {source!r}"})
        found = _instance.details()
        if source:
            found["applications"] = {
                name: one for name, one in found["applications"].items() if one["source"] == source
            }
        return Answer(200, found)

    def _put(self, body: bytes) -> Answer:
        config = ServeDeploySchema.model_validate(json.loads(body))
        try:
            with self._lock:
                _deploy.deploy(config, self._folders)
        except RuntimeError as error:
            return Answer(400, {"error": str(error)})
        return Answer(
            200, {"message": "The applications are being brought about: see GET for how they stand."}
        )

    def _delete(self, _: bytes) -> Answer:
        with self._lock:
            # As a file without applications and without a target_capacity does; then those of programs.
            _instance.asked(controller().deploy.remote([], None, True))
            for name in serve_api.status().applications:
                serve_api.delete(name)
        return Answer(200, {"message": "All applications were removed."})

    def _scale(self, name: DeploymentId, body: bytes) -> Answer:
        data = json.loads(body)
        if not isinstance(data, dict) or [*data] != ["target_num_replicas"]:
            return Answer(400, {"error": 'the body is {"target_num_replicas": NUMBER}'})
        try:
            wanted = checked({"num_replicas": data["target_num_replicas"]})
        except ValueError as error:
            return Answer(400, {"error": str(error)})
        try:
            api.get(controller().scale.remote(name, wanted["num_replicas"]))
        except KeyError:
            return Answer(404, {"error": f"{name} does not exist"})
        except RayServeException as error:
            return Answer(412, {"error": str(getattr(error, "cause", error))})
        except ValueError as error:
            return Answer(409, {"error": str(getattr(error, "cause", error))})
        return Answer(200, {"message": f"{name} is being scaled to {wanted['num_replicas']} replicas."})


class Door:
    """The actor: the port, and its threads.

    Args:
        port: 0: any free one.
        token: that clients must have.
        folders: where modules of applications are looked for first.
    """

    def __init__(self, port: int, token: str, folders: list[str]) -> None:
        administration = Administration(folders)

        class Handler(BaseHTTPRequestHandler):
            timeout = _PATIENCE_S
            protocol_version = "HTTP/1.1"
            server_version, sys_version = "skate", ""

            def answer(self) -> None:
                length = self.headers.get("Content-Length", "0")
                found = refusal(self.headers, door.address(), token)
                if found is None and not (length.isdecimal() and "Transfer-Encoding" not in self.headers):
                    found = Answer(411, {"error": "a body needs the header Content-Length"})
                if found is None and int(length) > _LONGEST_BODY:
                    found = Answer(413, {"error": f"a body may have {_LONGEST_BODY} bytes"})
                if found is not None:
                    self.close_connection = True  # its body was not read
                else:
                    found = self.carried_out(self.rfile.read(int(length)))
                data = json.dumps(found.body, default=str).encode() + b"\n"
                self.send_response(found.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
                if self.close_connection:
                    self.discard_body()

            def discard_body(self) -> None:
                """Read what a client still sends: closing at once would reset the connection, and with it
                the answer."""
                left = _MOST_DISCARDED
                try:
                    self.connection.shutdown(socket.SHUT_WR)
                    while left > 0 and (part := self.rfile.read1(65536)):
                        left -= len(part)
                except OSError:
                    pass  # the client has gone, or takes its time

            def carried_out(self, body: bytes) -> Answer:
                try:
                    return administration.answer(self.command, self.path, body)
                except (RayError, RayServeException) as error:
                    return Answer(503, {"error": f"the controller does not answer: {error}"})
                except Exception as error:
                    return Answer(500, {"error": f"{type(error).__name__}: {error}"})

            do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = do_OPTIONS = answer

            def log_message(self, *_: Any) -> None:
                """Log nothing: clients poll."""

        door = self
        self._server = ThreadingHTTPServer((_HOST, port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="skate-serve-admin", daemon=True).start()

    def address(self) -> str:
        """Return host and port."""
        return f"{_HOST}:{self._server.server_address[1]}"


def start(port: int, folders: list[str]) -> tuple[str, str]:
    """Start the REST API in this session, unless it runs; serve runs already.

    Args:
        port: 0: any free one.
        folders: where modules of applications are looked for first.

    Returns:
        Its address, and the file that has the token.

    Raises:
        RuntimeError: the port is in use.
    """
    path = os.path.join(api.init(ignore_reinit_error=True)["session_dir"], _TOKEN_FILE)
    try:
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32))
    except FileExistsError:
        pass  # it was started before: the token stays
    with open(path) as file:
        token = file.read()
    kind: Any = api.remote(
        name=ADMIN,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        max_restarts=-1,
        num_cpus=0,
        scheduling_strategy="DEFAULT",
    )(Door)
    door = kind.remote(port, token, [os.path.abspath(one) for one in folders])
    try:
        return f"http://{api.get(door.address.remote())}", path
    except RayError as error:
        raise RuntimeError(f"the REST API cannot listen on {_HOST}:{port}: {error}") from None
