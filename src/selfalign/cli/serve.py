"""selfalign serve MODEL."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI

    from selfalign.chat.server.service import Service
    from selfalign.chat.server.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `selfalign serve`."""
    parser.add_argument("model", help="a run (all its models), a model or adapter directory, a Hub id, or smollm2-135m")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1: this machine)")
    parser.add_argument("--port", type=int, default=8000, help="default 8000; 0 takes a free one")
    parser.add_argument("--api-key", help="what clients must send; $SELFALIGN_API_KEY keeps it out of the process list")
    parser.add_argument("--no-page", action="store_true", help="the API alone, without the chat page at /")
    parser.add_argument(
        "--style", choices=["standard", "concise", "verbose"], default="standard", help="how it answers"
    )
    parser.add_argument("--constitution", default="dromedary", help="principles and style (a run brings its own)")
    add_limits(parser)
    add_engine(parser)


def add_limits(parser: argparse.ArgumentParser) -> None:
    """How much is taken of whom, by the server of this package."""
    group = parser.add_argument_group("limits")
    group.add_argument("--rate", type=float, default=0.0, help="requests a minute of one client; 0 is no limit")
    group.add_argument("--total-rate", type=float, default=0.0, help="requests a minute of all; 0 is no limit")
    group.add_argument("--queue", type=int, default=256, help="requests that run and wait at most (default 256)")
    group.add_argument("--max-tokens", type=int, default=4096, help="most new tokens of an answer (default 4096)")
    group.add_argument("--max-body", type=int, default=2 * 2**20, help="bytes of a request (default 2 MiB)")
    group.add_argument("--timeout", type=float, default=600.0, help="seconds that an answer may take (default 600)")
    group.add_argument("--allowed-host", action="append", default=[], help="a Host that requests may name (repeatable)")
    group.add_argument("--cors-origin", action="append", default=[], help="another origin whose pages may ask")
    group.add_argument("--log-text", action="store_true", help="write messages into the log too")


def add_engine(parser: argparse.ArgumentParser) -> None:
    """What generates the text."""
    group = parser.add_argument_group("engine")
    group.add_argument("--engine", choices=["embedded", "vllm"], default="embedded", help="vllm: become `vllm serve`")
    group.add_argument("--batch-size", type=int, default=64, help="embedded: answers written at once (default 64)")
    group.add_argument("--dtype", choices=["auto", "float32", "bfloat16"], default="auto", help="default: auto")
    group.add_argument("--tensor-parallel-size", type=int, default=1, help="vllm: devices that share the model")
    group.add_argument("--vllm-args", default="", help='vllm: more of its options: --vllm-args="--max-model-len 4096"')
    group.add_argument("--dry-run", action="store_true", help="vllm: print the command, and run nothing")


def main(options: argparse.Namespace) -> int:
    """Serve until stopped."""
    check(options)
    options.api_key = options.api_key or os.environ.get("SELFALIGN_API_KEY", "")
    if options.engine == "vllm":
        from selfalign.chat.server.vllm import hand_over

        return hand_over(options)
    return serve(options)


def check(options: argparse.Namespace) -> None:
    """UserError for numbers that no server could run with."""
    from selfalign.errors import UserError

    least: dict[str, float] = {
        "port": 0,
        "queue": 1,
        "max_tokens": 1,
        "max_body": 1,
        "batch_size": 1,
        "tensor_parallel_size": 1,
    }
    least |= {"rate": 0, "total_rate": 0, "timeout": 0.1}
    for name, low in least.items():
        value = getattr(options, name)
        if not low <= value < float("inf") or (name == "port" and value > 65535):
            flag = "--" + name.replace("_", "-")
            raise UserError(f"{flag} is {value}", "selfalign serve --help")
    limits = argparse.ArgumentParser()
    add_limits(limits)
    vllms = {"tensor_parallel_size": 1, "vllm_args": ""}
    foreign, needs = (vars(limits.parse_args([])), "embedded") if options.engine == "vllm" else (vllms, "vllm")
    for name, default in foreign.items():
        if getattr(options, name) != default:
            raise UserError(f"--{name.replace('_', '-')} needs --engine {needs}", "leave it out, or name that engine")


def serve(options: argparse.Namespace) -> int:
    """On the embedded engine."""
    require_libraries()
    from selfalign.chat.server.app import create_app
    from selfalign.chat.server.hub import open_service
    from selfalign.chat.server.listening import listen, open_socket
    from selfalign.chat.server.logs import log_to_stderr
    from selfalign.pipeline.progress import quiet_libraries
    from selfalign.recipe import EngineOptions

    quiet_libraries()
    socket = open_socket(options.host, options.port)
    engine = EngineOptions(dtype=options.dtype, batch_size=options.batch_size)
    service = open_service(
        options.model, options.constitution, options.style, engine, limit=options.queue, timeout=options.timeout
    )
    app = create_app(service, settings_of(options))
    has_page = not options.no_page and add_page(app, service, options.max_tokens)
    log_to_stderr()
    tell(options, socket.getsockname()[1], [model.name for model in service.models], has_page)
    listen(app, socket)
    return 0


def require_libraries() -> None:
    """UserError for what the extra brings and is not there, before a model is loaded for nothing."""
    import importlib.util

    from selfalign.errors import UserError

    for name in ("openai", "fastapi", "fastapi_offline", "uvicorn", "prometheus_client"):
        if not importlib.util.find_spec(name):
            raise UserError(f"{name} is not installed", "pip install 'selfalign[serve]'")


def settings_of(options: argparse.Namespace) -> Settings:
    """The server's limits. On loopback only the names of this machine are answered, so that no page can rebind one."""
    from selfalign.chat.server.settings import Settings

    hosts = tuple(options.allowed_host)
    if is_loopback(options.host):
        hosts = ("127.0.0.1", "localhost", "[::1]", "::1", *hosts)
    return Settings(
        api_key=options.api_key,
        rate=options.rate,
        total_rate=options.total_rate,
        max_body=options.max_body,
        max_tokens=options.max_tokens,
        default_tokens=min(512, options.max_tokens),
        hosts=hosts,
        origins=tuple(options.cors_origin),
        log_text=options.log_text,
    )


def add_page(app: FastAPI, service: Service, max_tokens: int) -> bool:
    """The chat page at /, where Gradio is installed; its answers are held to the server's length, too."""
    import importlib.util

    if not importlib.util.find_spec("gradio"):
        print("selfalign: no chat page: gradio is not installed (pip install 'selfalign[serve]')", file=sys.stderr)
        return False
    from selfalign.chat.page.mount import mount_page

    mount_page(app, service, max_tokens)
    return True


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect."""
    return host == "localhost" or host == "::1" or host.startswith("127.")


def tell(options: argparse.Namespace, port: int, models: list[str], has_page: bool) -> None:
    """Say where it listens, and warn where anyone may connect."""
    host = f"[{options.host}]" if ":" in options.host else options.host
    url = f"http://{host}:{port}"
    if not is_loopback(options.host):
        guard = "the key is asked for" if options.api_key else "anyone who reaches it may use it: set --api-key"
        print(f"selfalign: warning: {options.host} can be reached from other machines; {guard}", file=sys.stderr)
        print("selfalign: warning: text and key go over the network unencrypted; put TLS before it", file=sys.stderr)
    page = f"{url} (chat page), " if has_page else ""
    print(f"selfalign: serving {', '.join(models)}", file=sys.stderr)
    print(f"selfalign: {page}{url}/v1 (OpenAI API), {url}/docs; Ctrl-C stops", file=sys.stderr, flush=True)
