"""`wan-duet serve`: takes requests over HTTP; `wan-duet clients`: who may send them."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..errors import RequestError
from .argument_types import amount_of_money, count
from .request_flags import add_model_flags
from .run_flags import add_run_flags, showing_residency
from .serve_places import add_serving_places, lanes_of, place_here, purchases_of, with_lora_files
from .subcommands import add_command, add_folder, add_group, folder_of

__all__ = ["add_clients_command", "add_serve_command"]

_PORT = 8472


def add_serve_command(commands: Any) -> None:
    """Add `serve`."""
    text = "take requests over HTTP, from the clients that you have added; accepted jobs outlive the process"
    serve = add_command(commands, "serve", _serve, text)
    serve.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="folder of results and queue"
    )
    serve.add_argument(
        "--listen",
        nargs="?",
        const="0.0.0.0",  # noqa: S104 - only if the user says so
        default="127.0.0.1",
        metavar="ADDRESS",
        help="answer other machines too: at ADDRESS, or at all addresses. Keys and prompts travel as plain "
        "text, so put a TLS proxy before it; default: only this machine",
    )
    serve.add_argument("--port", type=int, default=_PORT, help="default: %(default)s; 0: any free one")
    serve.add_argument(
        "--queue",
        type=count,
        default=100,
        metavar="N",
        help="how many jobs may wait; more are refused for now; default: %(default)s",
    )
    serve.add_argument(
        "--usd-per-hour",
        type=amount_of_money,
        default=0.0,
        metavar="USD",
        help="what an hour of work costs, for the limits of clients; default: nothing",
    )
    serve.add_argument(
        "--lora-folder",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="a folder with LoRAs that clients may name; may be repeated. Clients cannot make the service "
        "download any",
    )
    add_serving_places(serve)
    add_folder(serve, "the clients, and of the token of a fleet")
    add_run_flags(serve)
    add_model_flags(serve)


def add_clients_command(commands: Any) -> None:
    """Add `clients`, with its verbs."""
    verbs = add_group(commands, "clients", "say who may send requests to wan-duet serve")
    add = add_command(verbs, "add", _add, "add a client, and print its key once")
    add.add_argument("name", metavar="NAME")
    add.add_argument(
        "--usd-per-day",
        type=amount_of_money,
        metavar="USD",
        help="what its jobs of a day may cost; default: no limit",
    )
    add.add_argument(
        "--per-minute", type=count, metavar="N", help="how many jobs it may send a minute; default: no limit"
    )
    listed = add_command(verbs, "list", _list, "list the clients and their limits")
    remove = add_command(verbs, "remove", _remove, "remove a client; its key opens nothing any more")
    remove.add_argument("name", metavar="NAME")
    text = "say where the service is that Run Fleet uses; asks for its key, or reads it from stdin"
    connect = add_command(verbs, "connect", _connect, text)
    connect.add_argument("address", metavar="ADDRESS", help="such as https://gpu.example.com")
    connect.add_argument(
        "--allow-http", action="store_true", help="show the key and the prompts to your own network"
    )
    for verb in (add, listed, remove, connect):
        add_folder(verb, "the clients")


def _serve(options: argparse.Namespace) -> int:
    from ..service.serve import ServiceSettings, serve

    if options.preset is not None:
        raise RequestError.of("--preset", "given", "leave it out: each request says its own values")
    with showing_residency(), ExitStack() as stack:
        purchases = stack.enter_context(purchases_of(options))
        here = place_here(options)
        lanes = stack.enter_context(lanes_of(options, here))
        settings = ServiceSettings(
            output=options.output,
            clients=folder_of(options),
            model=Path(options.model).name,
            family=here.worker.model.family,
            kind=options.kind,
            host=options.listen,
            port=options.port,
            most_waiting=options.queue,
            usd_per_hour=options.usd_per_hour,
        )
        serve(
            settings,
            lanes,
            lambda url: _ready(url, as_json=options.json),
            check=here.require_possible,
            purchases=purchases,
            **({"named": with_lora_files(options)} if options.on == "ray" else {}),
        )
    return 0


def _ready(url: str, *, as_json: bool) -> None:
    print(json.dumps({"url": url}) if as_json else f"serving at {url}", flush=True)


def _add(options: argparse.Namespace) -> int:
    from ..service.client_keys import add_client, read_clients, webhook_secret

    key = add_client(
        folder_of(options), options.name, usd_per_day=options.usd_per_day, per_minute=options.per_minute
    )
    (client,) = [one for one in read_clients(folder_of(options)) if one.name == options.name]
    secret = webhook_secret(client.sha256)
    if options.json:
        print(json.dumps({"name": options.name, "key": key, "webhook_secret": secret}))
        return 0
    print(f"key             {key}\nwebhook secret  {secret}")
    print("Keep both: they are not shown again, and only a hash of the key is stored.", file=sys.stderr)
    return 0


def _list(options: argparse.Namespace) -> int:
    from ..service.client_keys import read_clients

    clients = read_clients(folder_of(options))
    if options.json:
        limits = ("name", "usd_per_day", "per_minute")
        print(json.dumps([{name: getattr(client, name) for name in limits} for client in clients]))
        return 0
    for client in clients:
        usd = "no limit" if client.usd_per_day is None else f"${client.usd_per_day:.2f} a day"
        rate = "no limit" if client.per_minute is None else f"{client.per_minute} a minute"
        print(f"{client.name:<24}  {usd:<16}  {rate}")
    return 0


def _remove(options: argparse.Namespace) -> int:
    from ..service.client_keys import remove_client

    remove_client(folder_of(options), options.name)
    return _list(options)


def _connect(options: argparse.Namespace) -> int:
    from ..service.fleet_address import keep_address

    asked = "Key of this client (not shown): "
    key = getpass.getpass(asked) if sys.stdin.isatty() else sys.stdin.readline()
    keep_address(folder_of(options), options.address, key, allow_http=options.allow_http)
    print(json.dumps({"address": options.address}) if options.json else f"Run Fleet uses {options.address}")
    return 0
