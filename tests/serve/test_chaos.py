"""Random updates, scaling, deletions, deaths and pauses under clients of all kinds: nothing is lost, nothing leaks."""

from __future__ import annotations

import ssl
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from .chaos import KINDS, SECURE_KINDS, Client
from .chaos_live import LiveClient, RPCClient, SocketClient
from .chaos_program import EVENTS, SEEDS, Program, check
from .conftest import Web, session

Wait = Callable[[Callable[[], object]], None]
pytestmark = pytest.mark.time_limit(300)
FUNCTION = "serve.grpc_service.add_WordsServicer_to_server"


@pytest.fixture(scope="module")
def serving() -> Iterator[Web]:
    """A session that answers gRPC, too."""
    with session(grpc_options={"port": 0, "grpc_servicer_functions": [FUNCTION]}) as address:
        yield Web(address)


@pytest.mark.parametrize("is_deadly", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_random_events(web: Web, wait_until: Wait, seed: int, is_deadly: bool) -> None:
    clients = {Client: KINDS, LiveClient: ["events"], SocketClient: ["socket"], RPCClient: ["rpc", "rpc"]}
    program = Program(web, wait_until, seed, clients)
    program.run(EVENTS, is_deadly)
    check(program)


@pytest.mark.parametrize("is_deadly", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_random_events_under_tls(wait_until: Wait, tmp_path: Path, seed: int, is_deadly: bool) -> None:
    authority = trustme.CA()
    made = authority.issue_cert("127.0.0.1")
    made.private_key_and_cert_chain_pem.write_to_path(tmp_path / "key.pem")
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    file = str(tmp_path / "key.pem")
    context = ssl.create_default_context(cafile=str(tmp_path / "authority.pem"))
    clients = {Client: SECURE_KINDS, LiveClient: ["events"], SocketClient: ["socket"]}
    with session(host="127.0.0.1", ssl_certfile=file, ssl_keyfile=file) as address:
        assert urllib.parse.urlsplit(address).scheme == "https"
        program = Program(Web(address), wait_until, seed, clients, context)
        program.run(EVENTS, is_deadly)
        check(program)
