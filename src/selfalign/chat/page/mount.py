"""Putting the chat page on the server, at `/`."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfalign.chat.page.late import Late
from selfalign.chat.page.layout import LONGEST, layout

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, MutableMapping

    from fastapi import FastAPI
    from starlette.types import ASGIApp, Receive, Scope, Send

    from selfalign.chat.server.service import Service

POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",  # Gradio's own page is written so
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",  # a picture in an answer must not tell another host who reads it
        "font-src 'self' data:",
        "connect-src 'self'",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    )
)
"""The Content-Security-Policy of the page: its browser talks to this server alone."""


def mount_page(app: FastAPI, service: Service, max_tokens: int = LONGEST) -> FastAPI:
    """`app` with the page at `/`; its own routes come first. Call it last. No answer has more than `max_tokens`.

    The page is made once the server listens, so that nobody who asks the API waits for it.
    """
    late = Late(lambda: page_app(service, max_tokens))
    before = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Any]:
        async with before(app) as state, late.running():
            yield state

    app.router.lifespan_context = lifespan
    app.state.leave = late.leave
    app.mount("/", Guarded(late))
    return app


def page_app(service: Service, max_tokens: int) -> FastAPI:
    """The page as an application of its own."""
    import gradio
    from fastapi import FastAPI

    page = layout(service, max_tokens)
    page.queue(default_concurrency_limit=None, max_size=256)
    here = Path(__file__).parent
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    mounted: FastAPI = gradio.mount_gradio_app(
        app,
        page,
        path="/",
        footer_links=["settings"],
        run_history=False,
        max_file_size=1,  # bytes: nothing on the page takes a file
        show_error=False,
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=False,
        theme=theme(),
        css=(here / "page.css").read_text(encoding="utf-8"),
        head=f"<style>{(here / 'around.css').read_text(encoding='utf-8')}</style>",
    )
    mounted.state.leave = partial(end_heartbeats, mounted)
    return mounted


def end_heartbeats(mounted: FastAPI) -> None:
    """Every open page holds a stream by which Gradio knows that it is there: a server that stops would wait for it."""
    for route in mounted.routes:
        if stopped := getattr(getattr(route, "app", None), "stop_event", None):
            stopped.set()


def theme() -> Any:
    """Gradio's own, with the fonts of the reader's machine: its usual ones would be fetched from elsewhere."""
    from gradio import themes

    return themes.Default(
        primary_hue="teal", neutral_hue="slate",
        font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "Consolas", "monospace"],
    )  # fmt: skip


class Guarded:
    """An ASGI app whose answers carry the policy, and are shown in no other site's frame."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The same, with the headers put into the start of the answer."""

        async def send_with_policy(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        await self.app(scope, receive, send_with_policy)


HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
