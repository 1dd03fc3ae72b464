"""What the owner sees of the mesh and does in it: peers, credits, receipts, membership."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from quart import Blueprint

from meshnode.api.admin import administrators_only, fields_of
from meshnode.api.context import ApiContext
from meshnode.api.fields import text
from meshnode.errors import ConfigError, InvalidField


class JoinFields(msgspec.Struct, kw_only=True):
    """``POST /api/mesh/join``: a multiaddr that ends in ``/p2p/<peer id>``."""

    address: Annotated[str, text(4096)]


class ServeFields(msgspec.Struct, kw_only=True):
    """``POST /api/mesh/serve``; ``on``: strangers may use the model."""

    model: Annotated[str, text(256)]
    on: bool


def mesh(context: ApiContext) -> Blueprint:
    """The endpoints, for administrators only."""
    routes = Blueprint("mesh", __name__)
    routes.before_request(administrators_only)

    @routes.get("/api/peers")
    async def peers() -> dict[str, Any]:
        return {"peers": msgspec.to_builtins(list(context.mesh.peers()))}

    @routes.get("/api/credits")
    async def account() -> Any:
        return msgspec.to_builtins(await context.mesh.credits())

    @routes.get("/api/receipts/<receipt>")
    async def receipt(receipt: str) -> Any:
        """What one answer of a peer cost, by the id it came with. Raises NotFound."""
        return msgspec.to_builtins(await context.mesh.receipt(receipt))

    @routes.post("/api/mesh/join")
    async def join() -> dict[str, Any]:
        fields = await fields_of(JoinFields)
        try:
            return {"peer": await context.mesh.join(fields.address.strip())}
        except ConfigError as error:  # what is the owner's fault in a file is the caller's here
            raise InvalidField(error.message, hint=error.hint, param="address") from None

    @routes.post("/api/mesh/leave")
    async def leave() -> dict[str, Any]:
        return {"forgotten": await context.mesh.leave()}

    @routes.get("/api/mesh/served")
    async def served() -> dict[str, Any]:
        return {"models": msgspec.to_builtins(list(context.mesh.served()))}

    @routes.post("/api/mesh/serve")
    async def serve() -> Any:
        fields = await fields_of(ServeFields)
        return msgspec.to_builtins(await context.mesh.serve(fields.model, fields.on))

    return routes
