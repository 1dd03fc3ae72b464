"""How the node fares: ``/health``, ``/metrics``, ``/api/status``. Open to whoever may knock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from quart import Blueprint, Response

from meshnode.api.asgi import current
from meshnode.api.context import ApiContext, ModelStateView
from meshnode.gateway.principal import Door


def status(context: ApiContext) -> Blueprint:
    """The three endpoints."""
    routes = Blueprint("status", __name__)

    @routes.get("/health")
    async def health() -> tuple[dict[str, Any], int]:
        """200 when a model can answer, here or at a peer; 503 while the node stops, or all is on its way or failed."""
        return _health(context)

    @routes.get("/metrics")
    async def metrics() -> Response:
        """Prometheus' text format."""
        if context.batches is not None:
            standing = context.batches.standing()
            context.metrics.batch_lines_running.set(standing.running)
            context.metrics.batch_lines_waiting.set(standing.waiting)
        body, content_type = context.metrics.render()
        return Response(body, content_type=content_type)

    @routes.get("/api/status")
    async def node() -> dict[str, Any]:
        """The node at a glance."""
        return _status(context, owner=current().door is Door.CONTROL)

    return routes


def _health(context: ApiContext) -> tuple[dict[str, Any], int]:
    states = context.pool.states()
    fetching = _fetching(context)
    loading = [{"id": state.id, "progress": round(state.progress, 3)} for state in states if state.state == "loading"]
    if context.draining.is_set():
        return {"status": "stopping"}, 503
    if any(state.state == "ready" for state in states) or context.mesh.models():
        return {"status": "ok", "loading": loading}, 200
    if loading or (fetching and not context.library.cards()):
        return {"status": "loading", "loading": loading, "fetching": fetching}, 503
    failed = [{"id": state.id, "reason": state.reason} for state in states if state.state == "failed"]
    if failed:
        return {"status": "failed", "failed": failed}, 503
    return {"status": "ok", "loading": []}, 200


def _fetching(context: ApiContext) -> list[dict[str, Any]]:
    """Models on their way to the disk."""
    return [
        {"source": one.source, "phase": one.phase, "progress": round(one.fraction, 3)}
        for one in context.library.arrivals
    ]


def _status(context: ApiContext, *, owner: bool) -> dict[str, Any]:
    facts = context.facts
    found: dict[str, Any] = {
        "version": facts.version,
        "peer_id": facts.peer_id,
        "addresses": list(facts.addresses()),
        "api": list(facts.api_urls()),
        "uptime_s": round(context.clock() - facts.started, 1),
        "models": [model_state(state) for state in context.pool.states()],
        "fetching": _fetching(context),
        "devices": [msgspec.structs.asdict(device) for device in facts.devices()],
        "backends": list(facts.backends()),
        "draining": context.draining.is_set(),
        "generating": context.turnstile.admission.generating,
        "queued": context.turnstile.admission.queued,
        "batches": _batches(context),
        "mesh": _mesh(context),
    }
    return found | {"home": str(facts.home)} if owner else found


def _batches(context: ApiContext) -> dict[str, Any]:
    """Batches that are not over, their requests being answered now, and those that wait."""
    if context.batches is None:
        return {"unfinished": 0, "lines_running": 0, "lines_waiting": 0}
    standing = context.batches.standing()
    return {"unfinished": standing.batches, "lines_running": standing.running, "lines_waiting": standing.waiting}


def _mesh(context: ApiContext) -> dict[str, Any]:
    """Whether the node joined, peers connected now, models they serve, and whether it only uses theirs."""
    return {
        "joined": context.mesh.joined,
        "peers": sum(peer.connected for peer in context.mesh.peers()),
        "models": len(context.mesh.models()),
        "client_only": context.client_only,
    }


def model_state(state: ModelStateView) -> dict[str, Any]:
    """One model in memory, or on its way there. Speeds in tokens per second, ``kv_*`` in tokens."""
    info, gauge = state.info, state.gauge
    placed = (
        {
            "context_length": info.n_ctx,
            "gpu_layers": info.gpu_layers,
            "layers": info.n_layers,
            "devices": list(info.used_devices),
            "memory": info.memory,
            "threads": info.threads,
            "threads_batch": info.threads_batch,
            "threads_reason": info.threads_reason,
            "sandbox": list(info.sandbox),
            "sandbox_missing": list(info.sandbox_missing),
            "decode_tps": round(info.decode_tps, 2),
            "prefill_tps": round(info.prefill_tps, 2),
        }
        if info is not None
        else _NOWHERE
    )
    return {
        "id": state.id,
        "state": state.state,
        "progress": round(state.progress, 3),
        "reason": state.reason,
        **placed,
        "running": gauge.running,
        "waiting": gauge.waiting,
        "kv_used": gauge.kv_used,
        "kv_total": gauge.kv_total,
        "restarts": state.restarts,
        "memory_estimated": state.estimated,
    }


_NOWHERE: Final[Mapping[str, Any]] = {
    "context_length": 0,
    "gpu_layers": 0,
    "layers": 0,
    "devices": [],
    "memory": 0,
    "threads": 0,
    "threads_batch": 0,
    "threads_reason": "",
    "sandbox": [],
    "sandbox_missing": [],
    "decode_tps": 0.0,
    "prefill_tps": 0.0,
}
"""The same of a model that is not loaded."""
